package process

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func shell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(Spec{Name: "script", Path: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestErr(t *testing.T) {
	p := shell(t, "echo the reason; exit 3")
	<-p.Done()
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("error %v lacks the exit status or the end of the log", err)
	}
	p = shell(t, "sleep 60")
	if err := p.Err(); err != nil {
		t.Errorf("a running process has error %v", err)
	}
	p.Kill()
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("a killed process has error %v", err)
	}
	p.Kill() // again is fine
}

func TestStop(t *testing.T) {
	for _, tt := range []struct{ reason, script, want string }{
		{"a process may end in its own way", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done", "exit status 7"},
		{"one that does not want to is killed", "trap '' TERM; echo ready; while :; do sleep 0.1; done", "killed"},
	} {
		p := shell(t, tt.script)
		for Tail(p.spec.Log) == "" {
			time.Sleep(10 * time.Millisecond) // until the trap is set
		}
		p.Stop(time.Second)
		if err := p.Err(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: ended with %v, want %q", tt.reason, err, tt.want)
		}
	}
}

func TestStartReportsWhatCannotRun(t *testing.T) {
	if _, err := Start(Spec{Name: "x", Path: "/nonexistent", Log: filepath.Join(t.TempDir(), "log")}); err == nil {
		t.Error("a program that is not there was started")
	}
}

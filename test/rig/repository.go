package rig

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Repository is a work tree and the bare repository that it pushes to.
type Repository struct {
	// Work is the folder of the work tree; Bare that of the repository.
	Work, Bare string
}

// NewRepository makes an empty pair below dir.
func NewRepository(ctx context.Context, dir string) (*Repository, error) {
	r := &Repository{Work: filepath.Join(dir, "work"), Bare: filepath.Join(dir, "fleet.git")}
	for _, args := range [][]string{
		{"init", "-q", "--bare", "-b", "main", r.Bare},
		{"init", "-q", "-b", "main", r.Work},
		{"-C", r.Work, "remote", "add", "origin", r.Bare},
	} {
		if _, err := git(ctx, dir, args...); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// URL of the bare repository.
func (r *Repository) URL() string { return "file://" + r.Bare }

// Copy brings a folder's files into the work tree.
func (r *Repository) Copy(from fs.FS) error { return copyFS(r.Work, from) }

func copyFS(to string, from fs.FS) error {
	return fs.WalkDir(from, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		return writeFile(filepath.Join(to, name), data)
	})
}

// Write makes a file of the work tree hold content.
func (r *Repository) Write(name, content string) error {
	return writeFile(filepath.Join(r.Work, name), []byte(content))
}

// Remove deletes a file of the work tree.
func (r *Repository) Remove(name string) error { return os.Remove(filepath.Join(r.Work, name)) }

// Replace swaps text in a file of the work tree; text that is not there is an
// error.
func (r *Repository) Replace(name, old, replacement string) error {
	data, err := os.ReadFile(filepath.Join(r.Work, name))
	if err != nil {
		return err
	}
	if !strings.Contains(string(data), old) {
		return fmt.Errorf("%s does not contain %q", name, old)
	}
	return r.Write(name, strings.ReplaceAll(string(data), old, replacement))
}

// Push commits everything and pushes it to main, by force where needed. It
// returns the commit.
func (r *Repository) Push(ctx context.Context, message string) (string, error) {
	for _, args := range [][]string{
		{"add", "-A"},
		{"commit", "-q", "--allow-empty", "-m", message},
		{"push", "-q", "--force", "origin", "HEAD:main"},
	} {
		if _, err := git(ctx, r.Work, args...); err != nil {
			return "", err
		}
	}
	return git(ctx, r.Work, "rev-parse", "HEAD")
}

// Reset moves the work tree to another commit, without pushing.
func (r *Repository) Reset(ctx context.Context, commit string) error {
	_, err := git(ctx, r.Work, "reset", "-q", "--hard", commit)
	return err
}

// Git runs a command of git in the work tree and returns what it says.
func (r *Repository) Git(ctx context.Context, args ...string) (string, error) {
	return git(ctx, r.Work, args...)
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	// The user's own configuration (hooks, signing, templates) must not matter.
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=demo", "GIT_AUTHOR_EMAIL=demo@example.com",
		"GIT_COMMITTER_NAME=demo", "GIT_COMMITTER_EMAIL=demo@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

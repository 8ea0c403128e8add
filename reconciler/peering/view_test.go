package peering

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// large is a view of so many services; random names are not compressed well.
func large(services int, name func(int) string) View {
	v := View{Exports: Exports{Network: "east", Gateways: []string{"10.0.0.1"}}, Keeps: map[string][]string{"kube-system": {"kube-dns"}}}
	for i := range services {
		v.Exports.Services = append(v.Exports.Services, Exported{Namespace: "shop", Name: name(i), Ports: []Port{{80, 8080}}, Ready: 2, Accounts: []string{"shop/default"}})
	}
	return v
}

func TestView(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	counted := func(i int) string { return fmt.Sprintf("service-%d", i) }
	random := func(int) string { return fmt.Sprintf("%016x%016x", chance.Uint64(), chance.Uint64()) }
	for _, tt := range []struct {
		reason string
		view   View
		zipped bool
		err    string
	}{
		{"none", View{}, false, ""},
		{"a few services", large(3, counted), false, ""},
		{"many", large(20_000, counted), true, ""},
		{"more than there is room for", large(60_000, random), true, "what is known of 60000 services takes"},
	} {
		text, err := tt.view.Encode()
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %d bytes, %v", tt.reason, len(text), err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.reason, err)
			continue
		}
		if again, _ := tt.view.Encode(); !bytes.Equal(text, again) {
			t.Errorf("%s: the same view gives other bytes", tt.reason)
		}
		if zipped := !bytes.HasPrefix(text, []byte("{")); zipped != tt.zipped {
			t.Errorf("%s: compressed %v", tt.reason, zipped)
		}
		got, err := DecodeView(text)
		if diff := cmp.Diff(tt.view, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-written +read):\n%s", tt.reason, err, diff)
		}
	}
}

// TestBadView: what somebody else wrote there is no view.
func TestBadView(t *testing.T) {
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	for range 65 {
		_, _ = w.Write(bytes.Repeat([]byte(" "), 1<<20))
	}
	_ = w.Close()
	for _, tt := range []struct{ reason, text, err string }{
		{"nothing", "", "unexpected end"},
		{"no JSON", "<html>", "invalid character"},
		{"another form", `{"form":"isthmus.dev/v2"}`, `it is in the form "isthmus.dev/v2", and "isthmus.dev/v1alpha1" is read`},
		{"the beginning of what is compressed", "\x1f\x8b", "EOF"},
		{"a bomb", bomb.String(), "unexpected end"},
	} {
		if got, err := DecodeView([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %+v, %v, want %q", tt.reason, got, err, tt.err)
		}
	}
}

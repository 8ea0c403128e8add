package source

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// sshSession runs git-upload-pack on an ssh server. It is not go-git's: that
// one reads the user's own files, and neither its handshake nor its answers end
// when the look does.
type sshSession struct {
	conn    net.Conn
	client  *ssh.Client
	session *ssh.Session
	in      io.WriteCloser
	out     io.Reader
	said    *head
	stop    func() bool
}

// connectSSH connects, checks the server's key, authenticates, and starts the
// program. Everything ends with ctx, also a server that stays silent.
func connectSSH(ctx context.Context, c Credentials, u *url.URL, m *meter) (session, error) {
	address := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "22"))
	config, err := sshConfig(c, u.User.Username(), address)
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	s := &sshSession{conn: conn, said: &head{}}
	s.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	if err := s.start(config, address, u.Path, m); err != nil {
		_ = s.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return s, nil
}

func (s *sshSession) start(config *ssh.ClientConfig, address, path string, m *meter) error {
	conn, channels, requests, err := ssh.NewClientConn(s.conn, address, config)
	if err != nil {
		return handshakeError(err, address)
	}
	s.client = ssh.NewClient(conn, channels, requests)
	if s.session, err = s.client.NewSession(); err != nil {
		return fmt.Errorf("open ssh session: %w", err)
	}
	if s.in, err = s.session.StdinPipe(); err != nil {
		return err
	}
	out, err := s.session.StdoutPipe()
	if err != nil {
		return err
	}
	s.out = m.reader(out)
	s.session.Stderr = s.said
	if err := s.session.Start("git-upload-pack " + quoted(path)); err != nil {
		return fmt.Errorf("start git-upload-pack over ssh: %w", err)
	}
	return nil
}

// quoted is one word for the shell at the other end, as Git quotes it.
func quoted(path string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(path) + "'"
}

func (s *sshSession) AdvertisedReferencesContext(context.Context) (*packp.AdvRefs, error) {
	refs := packp.NewAdvRefs()
	err := refs.Decode(s.out)
	switch {
	case errors.Is(err, packp.ErrEmptyAdvRefs), err == nil && refs.IsEmpty():
		return nil, transport.ErrEmptyRemoteRepository
	case err != nil:
		// The program ends at once when there is no such repository; what it wrote
		// last may still be on its way.
		_ = s.session.Wait()
		if s.said.notFound() {
			return nil, transport.ErrRepositoryNotFound
		}
		return nil, fmt.Errorf("read the list of branches and tags: %w", err)
	}
	return refs, nil
}

func (s *sshSession) UploadPack(_ context.Context, request *packp.UploadPackRequest) (*packp.UploadPackResponse, error) {
	if err := encodeRequest(s.in, request); err != nil {
		return nil, fmt.Errorf("ask for objects: %w", err)
	}
	if err := s.in.Close(); err != nil {
		return nil, err
	}
	response := packp.NewUploadPackResponse(request)
	return response, response.Decode(io.NopCloser(s.out))
}

func encodeRequest(w io.Writer, request *packp.UploadPackRequest) error {
	if err := request.UploadRequest.Encode(w); err != nil {
		return err
	}
	if err := request.UploadHaves.Encode(w, true); err != nil {
		return err
	}
	_, err := io.WriteString(w, "0009done\n")
	return err
}

func (s *sshSession) Close() error {
	s.stop()
	if s.client != nil {
		return s.client.Close()
	}
	return s.conn.Close()
}

// sshConfig uses the Secret alone: no agent and no file of the user's.
func sshConfig(c Credentials, user, address string) (*ssh.ClientConfig, error) {
	if len(c.Identity) == 0 {
		return nil, invalidSecret("spec.url is ssh and the Secret has no key identity", "put the private key there, and known_hosts beside it")
	}
	if len(bytes.TrimSpace(c.KnownHosts)) == 0 {
		return nil, invalidSecret("spec.url is ssh and the Secret has no key known_hosts", "`ssh-keyscan` prints the server's; compare it with what its owner publishes")
	}
	signer, err := ssh.ParsePrivateKey(c.Identity)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		if c.Password == "" {
			return nil, invalidSecret("the key identity needs a passphrase", "put it under the key password")
		}
		signer, err = ssh.ParsePrivateKeyWithPassphrase(c.Identity, []byte(c.Password))
	}
	if err != nil {
		return nil, invalidSecret("the key identity is not a private key, or password is not its passphrase", "use a key that `ssh-keygen` made")
	}
	known, err := knownHosts(c.KnownHosts)
	if err != nil {
		return nil, invalidSecret("the key known_hosts does not parse", "one line per key, as `ssh-keyscan` prints them")
	}
	return &ssh.ClientConfig{
		User:              cmp.Or(user, "git"),
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   known.HostKeyCallback(),
		HostKeyAlgorithms: known.HostKeyAlgorithms(address),
	}, nil
}

// knownHosts reads host keys, which the library takes from a file only.
func knownHosts(content []byte) (*knownhosts.HostKeyDB, error) {
	f, err := os.CreateTemp("", "isthmus-known-hosts-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(content)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return knownhosts.NewDB(f.Name())
}

func handshakeError(err error, address string) error {
	switch {
	case knownhosts.IsHostKeyChanged(err):
		return &Error{Reason: ReasonHostKeyMismatch, Message: fmt.Sprintf("the ssh server %q has another key than known_hosts says", address),
			Hint: "somebody may be in between; when the server's owner confirms its new key, put it into the Secret"}
	case knownhosts.IsHostUnknown(err):
		return &Error{Reason: ReasonHostKeyUnknown, Message: fmt.Sprintf("known_hosts has no key of the ssh server %q", address),
			Hint: "`ssh-keyscan` prints it; compare it with what its owner publishes"}
	case strings.Contains(err.Error(), "unable to authenticate"):
		return &Error{Reason: ReasonCredentialsRejected, Message: fmt.Sprintf("the ssh server %q rejected the key", address),
			Hint: "give the public key of identity read access to the repository"}
	}
	return fmt.Errorf("ssh to %q: %w", address, err)
}

// head keeps the first bytes of what a server says and drops the rest.
type head struct {
	mu   sync.Mutex
	text []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text = append(h.text, p[:min(len(p), 1<<10-len(h.text))]...)
	return len(p), nil
}

// notFound says whether the server knows no such repository. The text is the
// server's own and is not passed on.
func (h *head) notFound() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := strings.ToLower(string(h.text))
	for _, words := range []string{"not found", "does not exist", "does not appear to be a git repository", "could not be found", "access denied", "no such"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

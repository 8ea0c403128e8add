package fetch

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"testing/fstest"

	"github.com/isthmus-mesh/isthmus/catalog"
)

// Limits of a module's zip, of one of its files and of the part that is kept.
const (
	maxModule     = 64 << 20
	maxModuleFile = 32 << 20
	maxKept       = 16 << 20
)

// sumsEntry is the file of a cache entry that has the hashes of all of the module's
// files, in the form that the module's checksum is made from. By it the files
// that were kept can be verified without those that were not.
const sumsEntry = "SHA256SUMS"

// kept are the folders of the module that are kept.
var kept = []string{"config/crd/standard/", "config/crd/experimental/"}

// gatewayAPI returns the CRDs of a version and channel.
func (f *Fetcher) gatewayAPI(ctx context.Context, api catalog.GatewayAPI) (fs.FS, *Failure) {
	files, err := f.readGatewayAPI(ctx, api)
	if err != nil {
		return nil, moduleFailure(api, err)
	}
	return files, nil
}

func (f *Fetcher) readGatewayAPI(ctx context.Context, api catalog.GatewayAPI) (fs.FS, error) {
	sum, known := catalog.GatewayAPISum(api.Version)
	if !known {
		return nil, &invalid{ModuleNotFound, "isthmus knows no checksum of it"}
	}
	root := catalog.GatewayAPIModule + "@" + api.Version + "/"
	entry := "gateway-api/" + api.Version + ".zip"
	if packed := f.cache.read(entry, maxKept); packed != nil {
		if files, err := openKept(packed, root, sum); err == nil {
			return channelOf(files, root, api.Channel)
		}
	}
	module, err := f.module(ctx, api)
	if err != nil {
		return nil, err
	}
	files, sums, err := readModule(module, root)
	if err != nil {
		return nil, err
	}
	if got := moduleSum(sums); got != sum {
		return nil, &invalid{ModuleChecksumMismatch, fmt.Sprintf("the proxy sends a module of checksum %s in place of %s", got, sum)}
	}
	packed, err := pack(files, sums)
	if err == nil {
		err = f.cache.write(entry, packed)
	}
	if err != nil {
		return nil, &invalid{CacheFailed, err.Error()}
	}
	return channelOf(files, root, api.Channel)
}

// module downloads the zip of the module.
func (f *Fetcher) module(ctx context.Context, api catalog.GatewayAPI) ([]byte, error) {
	proxy := moduleProxy(f.options.ModuleProxy)
	if proxy == "" {
		return nil, &invalid{ModuleProxyMissing, "no Go module proxy is known"}
	}
	base, err := url.Parse(proxy)
	if err != nil {
		return nil, &invalid{ModuleProxyMissing, "the address of the Go module proxy is not valid"}
	}
	at := base.JoinPath(catalog.GatewayAPIModule, "@v", api.Version+".zip")
	f.tell(fmt.Sprintf("fetch Gateway API %s from %s", api.Version, base.Redacted()))
	if at.Scheme == "file" {
		data, err := os.ReadFile(at.Path)
		if err != nil {
			return nil, &invalid{ModuleNotFound, err.Error()}
		}
		return data, nil
	}
	return f.download(ctx, at)
}

func (f *Fetcher) download(ctx context.Context, at *url.URL) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, &invalid{ModuleProxyMissing, "the address of the Go module proxy is not valid"}
	}
	response, err := f.http.Do(request)
	if err != nil {
		var exchange *url.Error
		if errors.As(err, &exchange) {
			err = exchange.Err // without the address, which may hold a password
		}
		return nil, &invalid{ModuleProxyUnreachable, "the module proxy cannot be reached: " + err.Error()}
	}
	defer func() { _ = response.Body.Close() }()
	switch {
	case response.StatusCode == http.StatusNotFound, response.StatusCode == http.StatusGone:
		return nil, &invalid{ModuleNotFound, "the module proxy does not have it"}
	case response.StatusCode != http.StatusOK:
		return nil, &invalid{ModuleProxyUnreachable, "the module proxy answers " + response.Status}
	}
	data, err := readAll(response.Body, maxModule)
	if err != nil {
		return nil, &invalid{ModuleProxyUnreachable, "read from the module proxy: " + err.Error()}
	}
	return data, nil
}

// moduleProxy returns the first address of a GOPROXY list, empty for none: going
// to a version control system ("direct") is not ours to do.
func moduleProxy(list string) string {
	for _, entry := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '|' }) {
		entry = strings.TrimSpace(entry)
		for _, scheme := range []string{"https://", "http://", "file://"} {
			if strings.HasPrefix(entry, scheme) {
				return entry
			}
		}
	}
	return ""
}

// readModule returns the files to keep and the hashes of all files of a module.
func readModule(module []byte, root string) (fstest.MapFS, []byte, error) {
	archive, err := zip.NewReader(bytes.NewReader(module), int64(len(module)))
	if err != nil {
		return nil, nil, &invalid{ModuleChecksumMismatch, "the proxy sends no zip: " + err.Error()}
	}
	hashes := map[string]string{}
	files := fstest.MapFS{}
	for _, file := range archive.File {
		data, err := readZipped(file)
		if err != nil {
			return nil, nil, &invalid{ModuleChecksumMismatch, fmt.Sprintf("the proxy sends a damaged zip: %q: %s", file.Name, err)}
		}
		hashes[file.Name] = hashOf(data)
		if isKept(file.Name, root) {
			files[file.Name] = &fstest.MapFile{Data: data, Mode: 0o444}
		}
	}
	var sums bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(hashes)) {
		fmt.Fprintf(&sums, "%s  %s\n", hashes[name], name)
	}
	return files, sums.Bytes(), nil
}

func readZipped(file *zip.File) ([]byte, error) {
	reader, err := file.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = reader.Close() }()
	return readAll(reader, maxModuleFile)
}

func isKept(name, root string) bool {
	below, inside := strings.CutPrefix(name, root)
	return inside && slices.ContainsFunc(kept, func(folder string) bool { return strings.HasPrefix(below, folder) })
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// moduleSum is the checksum of a module as in go.sum: that of the list of all its
// files' hashes.
// Source: https://pkg.go.dev/golang.org/x/mod/sumdb/dirhash#Hash1
func moduleSum(sums []byte) string {
	sum := sha256.Sum256(sums)
	return "h1:" + base64.StdEncoding.EncodeToString(sum[:])
}

// pack makes the entry of the cache.
func pack(files fstest.MapFS, sums []byte) ([]byte, error) {
	var packed bytes.Buffer
	archive := zip.NewWriter(&packed)
	add := func(name string, data []byte) error {
		writer, err := archive.Create(name)
		if err == nil {
			_, err = writer.Write(data)
		}
		return err
	}
	if err := add(sumsEntry, sums); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := add(name, files[name].Data); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

var errDamaged = errors.New("the entry of the cache is damaged")

// openKept reads an entry of the cache. The list of hashes has to have the
// module's checksum; each file that the list has in the kept folders has to be
// there, and nothing else.
func openKept(packed []byte, root, sum string) (fstest.MapFS, error) {
	archive, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	if err != nil {
		return nil, err
	}
	files := fstest.MapFS{}
	var sums []byte
	for _, file := range archive.File {
		data, err := readZipped(file)
		if err != nil {
			return nil, err
		}
		if file.Name == sumsEntry {
			sums = data
			continue
		}
		files[file.Name] = &fstest.MapFile{Data: data, Mode: 0o444}
	}
	if moduleSum(sums) != sum {
		return nil, errDamaged
	}
	listed := 0
	for line := range strings.Lines(string(sums)) {
		hash, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !isKept(name, root) {
			continue
		}
		listed++
		if file := files[name]; file == nil || hashOf(file.Data) != hash {
			return nil, errDamaged
		}
	}
	if listed != len(files) {
		return nil, errDamaged
	}
	return files, nil
}

// channelOf returns the manifests of a channel.
func channelOf(files fstest.MapFS, root, channel string) (fs.FS, error) {
	folder := root + "config/crd/" + channel + "/"
	out := fstest.MapFS{}
	for name, file := range files {
		below, inside := strings.CutPrefix(name, folder)
		if inside && path.Ext(below) == ".yaml" && below != "kustomization.yaml" {
			out[below] = file
		}
	}
	if len(out) == 0 {
		return nil, &invalid{ModuleNotFound, fmt.Sprintf("it has no channel %q", channel)}
	}
	return out, nil
}

// moduleFailure says what was wanted, what happened, and what to do.
func moduleFailure(api catalog.GatewayAPI, err error) *Failure {
	failure := &Failure{Reason: ModuleProxyUnreachable, Message: fmt.Sprintf("CRDs of Gateway API %s: %s", api, err)}
	var known *invalid
	if errors.As(err, &known) {
		failure.Reason = known.reason
	}
	failure.Hint = map[Reason]string{
		ModuleProxyMissing:     "set GOPROXY or --module-proxy to a Go module proxy, file:// included, or leave the CRDs to the members (gatewayAPI.owner: Member)",
		ModuleProxyUnreachable: "what is in the cache needs no proxy: fetch once where it can be reached, or name another with --module-proxy",
		ModuleNotFound:         "use one of " + strings.Join(catalog.GatewayAPIVersions(), ", ") + ", and a proxy that has it",
		ModuleChecksumMismatch: "do not trust this proxy until you know why",
		CacheFailed:            "name a folder that can be written with --cache",
	}[failure.Reason]
	return failure
}

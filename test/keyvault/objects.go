package keyvault

import (
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// retention is how long what was deleted is kept.
const retention = 90 * 24 * time.Hour

// object is a key or secret with its versions, in the order in which they were
// made.
type object struct {
	name     string
	versions []*version
	deleted  time.Time // zero: it is there
}

func (o *object) newest() *version { return o.versions[len(o.versions)-1] }

// find returns a version by its id, the newest for the empty one.
func (o *object) find(id string) *version {
	if id == "" {
		return o.newest()
	}
	for _, v := range o.versions {
		if v.id == id {
			return v
		}
	}
	return nil
}

// version of a key or a secret.
type version struct {
	id               string
	created, updated time.Time
	attributes       attributes
	tags             map[string]string

	// Of keys.
	kty     string
	ops     []string
	private crypto.Signer

	// Of secrets.
	value, contentType string
}

// attributes that a caller can set.
type attributes struct {
	Enabled   *bool  `json:"enabled"`
	NotBefore *int64 `json:"nbf"`
	Expires   *int64 `json:"exp"`
	// Exportable needs a release policy, which is not emulated.
	Exportable bool `json:"exportable"`
}

func (a *attributes) merge(b attributes) {
	if b.Enabled != nil {
		a.Enabled = b.Enabled
	}
	if b.NotBefore != nil {
		a.NotBefore = b.NotBefore
	}
	if b.Expires != nil {
		a.Expires = b.Expires
	}
}

func newVersion(now time.Time, a attributes, tags map[string]string) *version {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails, by its documentation
	enabled := true
	v := &version{id: hex.EncodeToString(raw), created: now, updated: now, attributes: attributes{Enabled: &enabled}, tags: tags}
	v.attributes.merge(a)
	return v
}

// key is the place of an object: names that differ in case only are one.
func key(kind, name string) string { return kind + "/" + strings.ToLower(name) }

// body is what callers send, of whatever call.
type body struct {
	// Of keys.
	Kty     string   `json:"kty"`
	Crv     string   `json:"crv"`
	KeySize int      `json:"key_size"`
	KeyOps  []string `json:"key_ops"`
	Alg     string   `json:"alg"`
	// Value of a secret, or a digest in base64url.
	Value       *string           `json:"value"`
	ContentType *string           `json:"contentType"`
	Attributes  attributes        `json:"attributes"`
	Tags        map[string]string `json:"tags"`
}

var nameForm = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)

const (
	maxValue = 25 << 10
	maxTags  = 15
	maxTag   = 256
)

// answer is the service itself.
func (e *Emulator) answer(q *request) {
	var b body
	if q.Method == http.MethodPost || q.Method == http.MethodPut || q.Method == http.MethodPatch {
		// Recover and rotate have no body.
		if err := json.NewDecoder(http.MaxBytesReader(q.w, q.Body, 1<<20)).Decode(&b); err != nil && q.action != "recover" && q.action != "rotate" {
			q.refuse(http.StatusBadRequest, "BadParameter", "Property has invalid value or the body is no JSON")
			return
		}
	}
	if q.name != "" && !nameForm.MatchString(q.name) {
		q.refuse(http.StatusBadRequest, "BadParameter", "The request URI contains an invalid name: "+q.name)
		return
	}
	if why := wrongTags(b.Tags); why != "" {
		q.refuse(http.StatusBadRequest, "BadParameter", why)
		return
	}
	handle := map[string]func(*request, body){
		"keys/create": e.createKey, "keys/get": e.get, "keys/versions": e.listVersions, "keys/list": e.list, "keys/sign": e.sign,
		"keys/rotate": e.rotate, "keys/update": e.update, "keys/delete": e.remove,
		"secrets/set": e.setSecret, "secrets/get": e.get, "secrets/versions": e.listVersions, "secrets/list": e.list,
		"secrets/update": e.update, "secrets/delete": e.remove,
		"deletedkeys/get": e.get, "deletedkeys/list": e.list, "deletedkeys/recover": e.restore, "deletedkeys/delete": e.purge,
		"deletedsecrets/get": e.get, "deletedsecrets/list": e.list, "deletedsecrets/recover": e.restore, "deletedsecrets/delete": e.purge,
	}[q.op]
	if handle == nil {
		q.refuse(http.StatusNotFound, "NotFound", "The emulator has no "+q.op)
		return
	}
	handle(q, b)
}

func wrongTags(tags map[string]string) string {
	if len(tags) > maxTags {
		return fmt.Sprintf("The number of tags must not be above %d", maxTags)
	}
	for name, value := range tags {
		if len(name) > maxTag || len(value) > maxTag {
			return fmt.Sprintf("The name and value of a tag must not be longer than %d", maxTag)
		}
	}
	return ""
}

// lookup finds the object of a call and its version, and answers if there is none.
// The caller holds the lock.
func (e *Emulator) lookup(q *request) (*object, *version) {
	kind, deleted := strings.CutPrefix(q.kind, "deleted")
	o := e.objects[key(kind, q.name)]
	if o != nil && !o.deleted.IsZero() == deleted {
		if v := o.find(q.version); v != nil {
			return o, v
		}
	}
	noun := map[string]string{"keys": "Key", "secrets": "Secret"}[kind]
	q.refuse(http.StatusNotFound, noun+"NotFound", fmt.Sprintf(
		"A %s with (name/id) %s was not found in this key vault. If you recently deleted this %s you may be able to recover it using the correct recovery command.",
		strings.ToLower(noun), strings.Trim(q.name+"/"+q.version, "/"), strings.ToLower(noun)))
	return nil, nil
}

// free answers where a name belongs to what was deleted. The caller holds the lock.
func (e *Emulator) free(q *request) bool {
	if o := e.objects[key(q.kind, q.name)]; o != nil && !o.deleted.IsZero() {
		q.refuse(http.StatusConflict, "Conflict", fmt.Sprintf(
			"%s is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the object can only be recovered or purged.", q.name),
			"ObjectIsDeletedButRecoverable")
		return false
	}
	return true
}

// add puts a version on top of an object, which it makes when missing. The caller
// holds the lock.
func (e *Emulator) add(q *request, v *version) *object {
	o := e.objects[key(q.kind, q.name)]
	if o == nil {
		o = &object{name: q.name}
		e.objects[key(q.kind, q.name)] = o
	}
	o.versions = append(o.versions, v)
	return o
}

func (e *Emulator) get(q *request, _ body) {
	e.mu.Lock()
	defer e.mu.Unlock()
	o, v := e.lookup(q)
	switch {
	case v == nil:
	case q.kind == "secrets" && !*v.attributes.Enabled:
		q.refuse(http.StatusForbidden, "Forbidden", "Operation get is not allowed on a disabled secret.", "SecretDisabled")
	default:
		q.reply(e.whole(q, q.kind, o, v))
	}
}

func (e *Emulator) update(q *request, b body) {
	e.mu.Lock()
	defer e.mu.Unlock()
	o, v := e.lookup(q)
	if v == nil {
		return
	}
	v.attributes.merge(b.Attributes)
	if b.Tags != nil {
		v.tags = b.Tags
	}
	if b.KeyOps != nil {
		v.ops = b.KeyOps
	}
	v.updated = e.o.Now()
	q.reply(e.whole(q, q.kind, o, v))
}

func (e *Emulator) remove(q *request, _ body) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if o, v := e.lookup(q); v != nil {
		o.deleted = e.o.Now()
		q.reply(e.whole(q, "deleted"+q.kind, o, v))
	}
}

func (e *Emulator) restore(q *request, _ body) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if o, v := e.lookup(q); v != nil {
		o.deleted = time.Time{}
		q.reply(e.whole(q, strings.TrimPrefix(q.kind, "deleted"), o, v))
	}
}

func (e *Emulator) purge(q *request, _ body) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, v := e.lookup(q)
	switch {
	case v == nil:
	case e.o.PurgeProtection:
		q.refuse(http.StatusForbidden, "Forbidden", "Operation \"purge\" is not allowed because purge protection is enabled for this vault.", "ForbiddenByPolicy")
	default:
		delete(e.objects, key(strings.TrimPrefix(q.kind, "deleted"), q.name))
		q.w.WriteHeader(http.StatusNoContent)
	}
}

func (e *Emulator) list(q *request, _ body) {
	e.mu.Lock()
	defer e.mu.Unlock()
	kind, deleted := strings.CutPrefix(q.kind, "deleted")
	items := map[string]any{}
	for place, o := range e.objects {
		if strings.HasPrefix(place, kind+"/") && !o.deleted.IsZero() == deleted {
			items[place] = e.item(q, q.kind, o, o.newest(), false)
		}
	}
	q.pages(items)
}

func (e *Emulator) listVersions(q *request, _ body) {
	e.mu.Lock()
	defer e.mu.Unlock()
	items := map[string]any{}
	// A name that is not there has no versions; that is no error.
	if o := e.objects[key(q.kind, q.name)]; o != nil && o.deleted.IsZero() {
		for _, v := range o.versions {
			items[v.id] = e.item(q, q.kind, o, v, true)
		}
	}
	q.pages(items)
}

// pages answers with a page of items, in the order of their names.
func (q *request) pages(items map[string]any) {
	query := q.URL.Query()
	size := 25
	if text := query.Get("maxresults"); text != "" {
		asked, err := strconv.Atoi(text)
		if err != nil || asked < 1 || asked > size {
			q.refuse(http.StatusBadRequest, "BadParameter", "maxresults must be between 1 and 25")
			return
		}
		size = asked
	}
	names := make([]string, 0, len(items))
	for name := range items {
		if name > query.Get("$skiptoken") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	page, next := []any{}, any(nil)
	for i, name := range names {
		if i == size {
			query.Set("$skiptoken", names[i-1])
			next = "https://" + q.authority() + q.URL.Path + "?" + query.Encode()
			break
		}
		page = append(page, items[name])
	}
	q.reply(map[string]any{"value": page, "nextLink": next})
}

// authority is the host with its port, as the service has it in links.
func (q *request) authority() string {
	if strings.Contains(q.Host, ":") {
		return q.Host
	}
	return q.Host + ":443"
}

// item is a key or secret as lists have it.
func (e *Emulator) item(q *request, kind string, o *object, v *version, versioned bool) map[string]any {
	level := "Recoverable+Purgeable"
	if e.o.PurgeProtection {
		level = "Recoverable"
	}
	attributes := map[string]any{
		"enabled": *v.attributes.Enabled, "created": v.created.Unix(), "updated": v.updated.Unix(),
		"recoveryLevel": level, "recoverableDays": int(retention.Hours() / 24),
	}
	if v.attributes.NotBefore != nil {
		attributes["nbf"] = *v.attributes.NotBefore
	}
	if v.attributes.Expires != nil {
		attributes["exp"] = *v.attributes.Expires
	}
	plain, deleted := strings.CutPrefix(kind, "deleted")
	name := ""
	if versioned {
		name = v.id
	}
	out := map[string]any{"attributes": attributes}
	if plain == "keys" {
		attributes["exportable"] = false
		out["kid"] = q.id(plain, o.name, name)
	} else {
		out["id"] = q.id(plain, o.name, name)
	}
	if v.contentType != "" {
		out["contentType"] = v.contentType
	}
	if v.tags != nil {
		out["tags"] = v.tags
	}
	if deleted {
		out["recoveryId"] = q.id(kind, o.name, "")
		out["deletedDate"], out["scheduledPurgeDate"] = o.deleted.Unix(), o.deleted.Add(retention).Unix()
	}
	return out
}

// whole is a key or secret as a call for it has it.
func (e *Emulator) whole(q *request, kind string, o *object, v *version) map[string]any {
	out := e.item(q, kind, o, v, true)
	if strings.HasSuffix(kind, "keys") {
		delete(out, "kid")
		out["key"] = v.jwk(q.id("keys", o.name, v.id))
	} else if kind == "secrets" {
		out["value"] = v.value
	}
	return out
}

func (q *request) reply(value any) {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	q.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	q.w.WriteHeader(http.StatusOK)
	_, _ = q.w.Write(raw)
}

// refuse answers with an error of the service; inner are the codes inside of it.
func (q *request) refuse(status int, code, message string, inner ...string) {
	value := map[string]any{"code": code, "message": message}
	if len(inner) > 0 && inner[0] != "" {
		value["innererror"] = map[string]any{"code": inner[0]}
	}
	raw, err := json.Marshal(map[string]any{"error": value})
	if err != nil {
		panic(err)
	}
	q.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	q.w.WriteHeader(status)
	_, _ = q.w.Write(raw)
}

package trust

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// mostJitter is the share of an intermediate's life by which it may be replaced
// earlier, so that a fleet made in one day is not renewed in one day.
const mostJitter = 0.05

// renewalChecks are the reasons for a new intermediate, in order. The first that
// holds is told.
var renewalChecks = []struct {
	why   string
	holds func(now time.Time, r Request, m *memberState) bool
}{
	{"another root signs", func(_ time.Time, r Request, m *memberState) bool {
		return m.issued.Signer != r.Target.Signer.Signs()
	}},
	{"it was issued before the time that Git says", func(now time.Time, r Request, m *memberState) bool {
		made := m.chain.Intermediate.NotBefore.Add(clockSkew)
		return replaceBefore(r.Policy.ReplaceIntermediatesBefore, made, now) || replaceBefore(r.ReplaceIssuedBefore, made, now)
	}},
	{"it has reached its rotation point", func(now time.Time, r Request, m *memberState) bool {
		return !now.Before(rotationPoint(m.chain, r)) && gains(now, r, m)
	}},
	{"workload certificates would outlive it", func(now time.Time, r Request, m *memberState) bool {
		return m.chain.NotAfter().Before(now.Add(r.Policy.wait())) && gains(now, r, m)
	}},
}

// renewal says why the member needs a new intermediate; empty when it does not.
func renewal(now time.Time, r Request, m *memberState) string {
	for _, check := range renewalChecks {
		if check.holds(now, r, m) {
			return check.why
		}
	}
	return ""
}

// rotationPoint is when an intermediate has used up its share of life, less a
// jitter that the member's name gives.
func rotationPoint(c Chain, r Request) time.Time {
	return DueAt(c.Intermediate, r.Policy.Intermediate.RotateAt-mostJitter*share(r.Policy.Network+"/"+r.Member))
}

// gains says whether a new intermediate would live longer: not when both end with
// the root, which would make one after the other, each for a shorter time.
func gains(now time.Time, r Request, m *memberState) bool {
	end := now.Add(r.Policy.Intermediate.Validity)
	if root := r.Target.Signer.notAfter(); root.Before(end) {
		end = root
	}
	return end.Sub(m.chain.NotAfter()) > time.Second
}

// The tags of a member's document, which say what its certificates do not: since
// when.
const (
	tagTrusts = "trusts" // short fingerprint@seconds, comma, …
	tagSigner = "signer" // short fingerprint@seconds
	tagJoined = "joined" // seconds
	tagList   = "list"   // seconds
	// Intermediates from before that are still valid: serial:signer:made:end, comma,
	// … in tags earlier-1 and on.
	tagEarlier = "earlier-"
)

// Vaults keep 256 bytes in a tag, so fingerprints are cut and lists are split.
const (
	shortFingerprint = 32
	mostEarlier      = 12
	earlierInTag     = 2
)

// earlier is an intermediate of a member that was issued once. Its workload
// certificates are good until it ends, or is revoked.
type earlier struct {
	serial    string
	signer    Fingerprint
	made, end time.Time
}

func made(c Chain) earlier {
	return earlier{
		serial: c.Serial(), signer: c.Signer(),
		made: c.Intermediate.NotBefore.Add(clockSkew).Truncate(time.Second), end: c.Intermediate.NotAfter.Truncate(time.Second),
	}
}

// nextEarlier are those that are kept with a chain that comes after another one:
// the newest ones that are still valid.
func nextEarlier(list []earlier, before, after Chain, now time.Time) []earlier {
	list = slices.Clone(list)
	if before.Intermediate != nil && !before.Intermediate.Equal(after.Intermediate) {
		list = append(list, made(before))
	}
	list = slices.DeleteFunc(list, func(e earlier) bool { return !e.end.After(now) })
	return list[max(0, len(list)-mostEarlier):]
}

func earlierTags(list []earlier, tags map[string]string) {
	for i, e := range list {
		name := tagEarlier + strconv.Itoa(1+i/earlierInTag)
		if tags[name] != "" {
			tags[name] += ","
		}
		tags[name] += fmt.Sprintf("%s:%s:%d:%d", e.serial, e.signer, e.made.Unix(), e.end.Unix())
	}
}

func parseEarlier(tags map[string]string) []earlier {
	var list []earlier
	for i := 1; tags[tagEarlier+strconv.Itoa(i)] != ""; i++ {
		for _, entry := range strings.Split(tags[tagEarlier+strconv.Itoa(i)], ",") {
			part := strings.Split(entry, ":")
			if len(part) != 4 {
				continue
			}
			from, errFrom := strconv.ParseInt(part[2], 10, 64)
			end, errEnd := strconv.ParseInt(part[3], 10, 64)
			if errFrom != nil || errEnd != nil {
				continue
			}
			list = append(list, earlier{part[0], Fingerprint(part[1]), time.Unix(from, 0).UTC(), time.Unix(end, 0).UTC()})
		}
	}
	return list
}

// next is what the vault holds once a chain is kept in it.
func (i Issued) next(c Chain, now time.Time, fresh bool) Issued {
	now = now.Truncate(time.Second)
	out := Issued{
		Trusts: map[Fingerprint]time.Time{}, ListSince: i.ListSince, Signer: c.Signer(), SignerSince: now, Joined: i.Joined,
		Serial: c.Serial(), NotBefore: c.Intermediate.NotBefore, NotAfter: c.Intermediate.NotAfter,
	}
	if i.joining() && fresh {
		out.Joined = now
	}
	if i.Signer == out.Signer {
		out.SignerSince = i.SignerSince
	}
	for _, fingerprint := range c.Fingerprints() {
		out.Trusts[fingerprint] = now
		if since, has := i.Trusts[fingerprint]; has {
			out.Trusts[fingerprint] = since
		}
	}
	if !maps.EqualFunc(out.Trusts, i.Trusts, time.Time.Equal) {
		out.ListSince = now
	}
	return out
}

func (i Issued) tags() map[string]string {
	var trusts []string
	for _, fingerprint := range slices.Sorted(maps.Keys(i.Trusts)) {
		trusts = append(trusts, fmt.Sprintf("%s@%d", short(fingerprint), i.Trusts[fingerprint].Unix()))
	}
	tags := map[string]string{
		tagTrusts: strings.Join(trusts, ","),
		tagSigner: fmt.Sprintf("%s@%d", short(i.Signer), i.SignerSince.Unix()),
		tagList:   strconv.FormatInt(i.ListSince.Unix(), 10),
	}
	if !i.Joined.IsZero() {
		tags[tagJoined] = strconv.FormatInt(i.Joined.Unix(), 10)
	}
	return tags
}

// issuedOf is what a document holds. What its tags do not say has been so since
// the intermediate was made, as far as is known.
func issuedOf(c Chain, tags map[string]string) Issued {
	made := c.Intermediate.NotBefore.Add(clockSkew)
	out := Issued{
		Trusts: map[Fingerprint]time.Time{}, ListSince: made, Signer: c.Signer(), SignerSince: made,
		Serial: c.Serial(), NotBefore: c.Intermediate.NotBefore, NotAfter: c.Intermediate.NotAfter,
	}
	for _, fingerprint := range c.Fingerprints() {
		out.Trusts[fingerprint] = made
	}
	for _, entry := range strings.Split(tags[tagTrusts], ",") {
		of, since, ok := parseSince(entry)
		for _, fingerprint := range c.Fingerprints() {
			if ok && of == short(fingerprint) {
				out.Trusts[fingerprint] = since
			}
		}
	}
	if of, since, ok := parseSince(tags[tagSigner]); ok && of == short(out.Signer) {
		out.SignerSince = since
	}
	if seconds, err := strconv.ParseInt(tags[tagList], 10, 64); err == nil {
		out.ListSince = time.Unix(seconds, 0).UTC()
	}
	if seconds, err := strconv.ParseInt(tags[tagJoined], 10, 64); err == nil {
		out.Joined = time.Unix(seconds, 0).UTC()
	}
	return out
}

func short(fingerprint Fingerprint) string {
	return string(fingerprint[:min(shortFingerprint, len(fingerprint))])
}

func parseSince(entry string) (string, time.Time, bool) {
	fingerprint, text, _ := strings.Cut(entry, "@")
	seconds, err := strconv.ParseInt(text, 10, 64)
	return fingerprint, time.Unix(seconds, 0).UTC(), err == nil
}

package httpapi

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/rondodb/rondo/quorum"
)

// Prefixes of the paths that end in a bucket or a key.
const (
	kvPrefix      = "/v1/kv/"
	bucketsPrefix = "/v1/buckets/"
	explainPrefix = "/v1/explain/"
)

// rawPath is the path as it was sent, percent-encoded where the client did so. Where there is no RawPath, Path is equal to
// it but for escapes that stand for bytes other than the slash.
func rawPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.Path
}

// splitKey reads bucket and key off the path after prefix. The bucket ends at the first slash that is not encoded; the key
// is all the rest, decoded once and never cleaned. Without that slash there is no key.
func splitKey(u *url.URL, prefix string) (bucket, key string, hasKey bool, e *quorum.Error) {
	rest := rawPath(u)[len(prefix):]
	bucket, key, hasKey = strings.Cut(rest, "/")
	if u.RawPath != "" {
		var err error
		if bucket, err = decodePath(bucket); err == nil {
			key, err = decodePath(key)
		}
		if err != nil { // net/http does not let such paths through
			return "", "", false, invalid("the path is not percent-encoded correctly: %v", err)
		}
	}
	return bucket, key, hasKey, checkBucket(bucket)
}

func decodePath(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	return url.PathUnescape(s)
}

// checkBucket keeps to the names that users may give buckets.
func checkBucket(name string) *quorum.Error {
	if len(name) < 1 || len(name) > maxBucket {
		return invalid("a bucket's name has 1 to %d bytes, this one has %d", maxBucket, len(name))
	}
	if name[0] == '.' || name[0] == '_' {
		return invalid("bucket %s: names that begin with . or _ are the system's", quoted(name))
	}
	for i := range len(name) {
		if c := name[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return invalid("bucket %s: names are made of A-Z a-z 0-9 . _ -", quoted(name))
		}
	}
	return nil
}

func checkKey(key string) *quorum.Error {
	if len(key) < 1 || len(key) > maxKey {
		return invalid("a key has 1 to %d bytes, this one has %d", maxKey, len(key))
	}
	return nil
}

// invalid is the error of a request that cannot be meant so. It is found before anything is done.
func invalid(format string, args ...any) *quorum.Error {
	return &quorum.Error{Code: quorum.CodeInvalid, Detail: fmt.Sprintf(format, args...), Outcome: quorum.NotApplied}
}

// quoted shows what a client sent: printable, and not too long.
func quoted(s string) string {
	const most = 60
	if len(s) > most {
		return fmt.Sprintf("%+q…", s[:most])
	}
	return fmt.Sprintf("%+q", s)
}

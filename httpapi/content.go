package httpapi

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/vclock"
)

// mediaType is the part of a content type before its parameters, in lower case.
func mediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// isJSON tells whether values of a content type are JSON documents.
func isJSON(contentType string) bool {
	return contentType == vclock.TypeJSON || len(contentType) >= len(vclock.TypeJSON) && mediaType(contentType) == vclock.TypeJSON
}

// isText tells whether values of a content type are text in UTF-8, if they are valid UTF-8.
func isText(contentType string) bool {
	if contentType == vclock.TypeText {
		return true
	}
	media := mediaType(contentType)
	switch {
	case strings.HasPrefix(media, "text/"), strings.HasSuffix(media, "+json"), strings.HasSuffix(media, "+xml"),
		media == "application/xml", media == "application/yaml", media == "application/javascript":
	default:
		return false
	}
	_, charset, found := strings.Cut(strings.ToLower(contentType), "charset=")
	if !found {
		return true
	}
	charset, _, _ = strings.Cut(charset, ";")
	switch strings.Trim(charset, ` "`) {
	case "utf-8", "utf8", "us-ascii", "ascii":
		return true
	}
	return false
}

// declared is the content type that a PUT declares: "" where there is none, or only the one that curl adds by itself. No
// other is changed.
func declared(h http.Header) (string, *quorum.Error) {
	if e := keptWhole(h); e != nil {
		return "", e
	}
	values := h["Content-Type"]
	if len(values) > 1 {
		return "", invalid("there are %d Content-Type headers: send one", len(values))
	}
	if len(values) == 0 || values[0] == "" {
		return "", nil
	}
	switch t := values[0]; t {
	case vclock.TypeJSON, vclock.TypeText, vclock.TypeBytes:
		return t, nil
	default:
		if len(t) > maxContentType {
			return "", invalid("a Content-Type has at most %d bytes, this one has %d", maxContentType, len(t))
		}
		media := mediaType(t)
		if !isMediaType(media) || !printable(t) {
			return "", invalid("Content-Type %s: use type/subtype, such as text/plain", quoted(t))
		}
		if media == "application/x-www-form-urlencoded" {
			return "", nil
		}
		return t, nil
	}
}

// keptWhole refuses what says that the body is not the value itself: it would be stored, and what it says would be lost.
func keptWhole(h http.Header) *quorum.Error {
	for _, v := range h["Content-Encoding"] {
		if v != "" && !strings.EqualFold(v, "identity") {
			return invalid("Content-Encoding %s is not kept with a value: send the bytes themselves", quoted(v))
		}
	}
	if len(h["Content-Range"]) > 0 {
		return invalid("Content-Range: a value is written as a whole")
	}
	return nil
}

// isMediaType keeps to the grammar of RFC 9110, section 8.3.1.
func isMediaType(media string) bool {
	kind, sub, found := strings.Cut(media, "/")
	return found && isToken(kind) && isToken(sub)
}

func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// contentType is the type that a value is kept with: the declared one, or one that the bytes show.
func contentType(declared string, value []byte) (string, *quorum.Error) {
	switch {
	case declared == "":
		if checkJSON(value) == jsonGood {
			return vclock.TypeJSON, nil
		}
		if utf8.Valid(value) {
			return vclock.TypeText, nil
		}
		return vclock.TypeBytes, nil
	case isJSON(declared):
		if fault := checkJSON(value); fault != jsonGood {
			return "", invalid("the body is declared %s, but %v: correct it, or send it as text/plain or application/octet-stream", quoted(declared), fault)
		}
	}
	return declared, nil
}

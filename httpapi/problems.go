package httpapi

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"

	"github.com/rondodb/rondo/quorum"
)

const problemsPrefix = "/problems/"

// problem serves the page that the type of a problem document points to.
func (x *exchange) problem() {
	code := strings.TrimPrefix(x.r.URL.Path, problemsPrefix)
	k, ok := kinds[quorum.Code(code)]
	if !ok {
		x.fail(&quorum.Error{Code: codeNotFound, Detail: "there is no problem of this name"})
		return
	}
	x.text(http.StatusOK, k.title+" ("+code+", HTTP "+strconv.Itoa(k.status)+")\n\n"+k.page+"\n")
}

// text answers with plain text.
func (x *exchange) text(status int, s string) {
	x.status = status
	x.w.Header()["Content-Type"] = typeText
	x.buf = append(x.buf[:0], s...)
	x.finish()
}

// rejection is the problem document in place of what net/http itself answers to a request that it cannot read; nil where b
// is anything else. The two forms of that answer are fixed texts of net/http.
func rejection(b []byte) []byte {
	const longest = 512
	status, found := bytes.CutPrefix(b, []byte("HTTP/1.1 "))
	if !found || len(b) > longest || len(status) < 3 {
		return nil
	}
	head, text, found := bytes.Cut(status, []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"))
	if !found || bytes.IndexByte(head, '\n') >= 0 {
		return nil
	}
	code, detail := quorum.CodeInvalid, "the request cannot be read: "+string(text)
	switch string(status[:3]) {
	case "400", "501", "505":
	case "431":
		code, detail = quorum.CodeTooLarge, "the head of the request is larger than "+strconv.Itoa(maxHeader)+" bytes"
	default:
		return nil
	}
	k := kinds[code]
	body := appendProblem(nil, code, k, detail)
	body = append(body, `,"outcome":"not_applied"}`+"\n"...)
	return append([]byte("HTTP/1.1 "+strconv.Itoa(k.status)+" "+http.StatusText(k.status)+
		"\r\nContent-Type: application/problem+json\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\nConnection: close\r\n\r\n"), body...)
}

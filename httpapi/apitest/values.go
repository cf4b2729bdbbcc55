package apitest

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"time"
)

func testValues(c *client) {
	base := "/v1/kv/" + fresh("values-") + "/"
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	var text strings.Builder
	for r := range rune(0x300) {
		text.WriteRune(r)
	}
	deep := strings.Repeat("[", 9000) + strings.Repeat("]", 9000)
	for name, v := range map[string]struct{ value, sent, kept string }{
		"empty":          {"", "", "text/plain; charset=utf-8"},
		"empty binary":   {"", "application/octet-stream", "application/octet-stream"},
		"object":         {`{"items":3}`, "", "application/json"},
		"big number":     {`9007199254740993`, "", "application/json"},
		"huge number":    {`{"n":123456789012345678901234567890.10,"e":1E400}`, "application/json", "application/json"},
		"key order":      {`{"b":1,"a":2,"b":3}`, "", "application/json"},
		"white space":    {" {\"a\" :\t1 }\n\n", "application/json", "application/json"},
		"escapes":        {`"\u0041\/\ud83d\ude00"`, "", "application/json"},
		"lone surrogate": {`"\ud800"`, "application/json", "application/json"},
		"null":           {`null`, "", "application/json"},
		"number":         {`-0.0e-1`, "", "application/json"},
		"deep":           {deep, "", "application/json"},
		"text":           {"hello", "", "text/plain; charset=utf-8"},
		"all of Unicode": {text.String(), "", "text/plain; charset=utf-8"},
		"control bytes":  {"\x00\x01\x1f\x7f\"\\\b\f\n\r\t", "text/plain", "text/plain"},
		"BOM":            {"\ufeff{}", "", "text/plain; charset=utf-8"},
		"trailing comma": {`{"a":1,}`, "", "text/plain; charset=utf-8"},
		"two documents":  {`{} {}`, "", "text/plain; charset=utf-8"},
		"curl":           {`{"a":1}`, "application/x-www-form-urlencoded", "application/json"},
		"curl text":      {`a=1&b=2`, "application/x-www-form-urlencoded", "text/plain; charset=utf-8"},
		"not UTF-8":      {"\xff\xfe", "", "application/octet-stream"},
		"cut UTF-8":      {"caf\xc3", "", "application/octet-stream"},
		"surrogate":      {"\xed\xa0\x80", "", "application/octet-stream"},
		"JSON not UTF-8": {"\"\xff\"", "", "application/octet-stream"},
		"binary":         {string(binary), "", "application/octet-stream"},
		"binary as text": {string(binary), "text/plain", "text/plain"},
		"declared":       {"{}", "application/octet-stream", "application/octet-stream"},
		"own type":       {"x", "application/vnd.example+thing; v=1", "application/vnd.example+thing; v=1"},
		"picture":        {string(binary), "image/png", "image/png"},
		"page":           {"<script>alert(1)</script>", "text/html", "text/html"},
		"utf-16":         {"\xff\xfea\x00", "text/plain; charset=utf-16", "text/plain; charset=utf-16"},
		"latin":          {"caf\xe9", "text/plain; charset=iso-8859-1", "text/plain; charset=iso-8859-1"},
		"JSON in caps":   {"[1]", "Application/JSON; charset=UTF-8", "Application/JSON; charset=UTF-8"},
		"40 kB text":     {strings.Repeat("\"é\n", 10_000), "", "text/plain; charset=utf-8"},
		"40 kB binary":   {strings.Repeat("\xff\x00\x01", 13_000), "", "application/octet-stream"},
		"100 kB JSON":    {`["` + strings.Repeat("x", 100_000) + `"]`, "", "application/json"},
	} {
		path := base + escape(name)
		for _, chunked := range []bool{false, true} {
			r := put(path, v.value)
			if r.Chunked = chunked; v.sent != "" {
				r.Header = []string{"Content-Type", v.sent}
			}
			c.want(200, r)
			a := c.want(200, get(path+"?raw=true"))
			if string(a.Body) != v.value || a.Header.Get("Content-Type") != v.kept {
				c.t.Errorf("%s: raw: got %q as %s, want %q as %s", name, short(string(a.Body)), a.Header.Get("Content-Type"), short(v.value), v.kept)
			}
			a = c.want(200, get(path))
			values := c.decode(a).Values
			if len(values) != 1 || values[0].ContentType != v.kept {
				c.t.Errorf("%s: got %s", name, short(string(a.Body)))
				continue
			}
			if v.kept == "application/json" && !bytes.Contains(a.Body, []byte(`"value":`+v.value+`,"content_type"`)) {
				c.t.Errorf("%s: JSON is not embedded as it was sent: %s", name, short(string(a.Body)))
			}
			got, ok := values[0].bytes()
			if media := strings.ToLower(v.kept); strings.HasPrefix(media, "application/json") {
				got = string(bytes.TrimSpace([]byte(got))) // the decoder of this test drops space around it
				ok = got == strings.TrimSpace(v.value)
			} else {
				ok = ok && got == v.value
			}
			if !ok {
				c.t.Errorf("%s: got %q, want %q", name, short(got), short(v.value))
			}
		}
	}
}

func testForms(c *client) {
	path := "/v1/kv/" + fresh("forms-") + "/k"
	for _, v := range []struct{ kind, value, shown string }{
		{"application/json", `{"a": 1}`, `"value":{"a": 1},`},
		{"text/plain", "a\"b\\c\n\x01é", `"value":"a\"b\\c\n\u0001é",`},
		{"text/plain", "caf\xe9", `"base64":"Y2Fm6Q==",`},
		{"application/octet-stream", "abc", `"base64":"YWJj",`},
		{"image/png", "\x89PNG", `"base64":"iVBORw==",`},
		{"text/csv; charset=utf-8", "a,b", `"value":"a,b",`},
	} {
		c.want(200, put(path, v.value, "Content-Type", v.kind))
		if a := c.want(200, get(path)); !bytes.Contains(a.Body, []byte(`"values":[{`+v.shown)) {
			c.t.Errorf("%s %q: got %s, want %s in it", v.kind, v.value, a.Body, v.shown)
		}
	}
}

func testContentTypes(c *client) {
	path := "/v1/kv/" + fresh("types-") + "/k"
	for _, body := range []string{"", "{", `{"a":1,}`, "{} {}", "\ufeff{}", "'a'", "NaN", "01", "+1", `"\x41"`, "\"\t\"", `{"a" 1}`, "[1 2]", "\"\xff\"", "tru", strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)} {
		for _, kind := range []string{"application/json", "application/json; charset=utf-8", "APPLICATION/JSON"} {
			c.refused(put(path, body, "Content-Type", kind), "JSON")
		}
	}
	for _, kind := range []string{"x", "text", "/", "text/", "te xt/plain", "text/plain\x01", strings.Repeat("a", 200) + "/" + strings.Repeat("b", 100), "text/plain; n=\xff"} {
		c.untouched = true // such headers cannot be put into a document's terms
		c.want(400, put(path, "1", "Content-Type", kind))
		c.untouched = false
	}
	c.refused(put(path, "1", "Content-Type", "text/plain", "Content-Type", "text/html"), "Content-Type")
	c.refused(put(path, "1", "Content-Encoding", "gzip"), "Content-Encoding")
	c.refused(put(path, "1", "Content-Range", "bytes 0-0/2"), "Content-Range")
	c.want(404, get(path))
	c.want(200, put(path, "1", "Content-Encoding", "identity"))
}

func testValueLimits(c *client) {
	path := "/v1/kv/" + fresh("large-") + "/k"
	limit := c.options.MaxValue
	value := bytes.Repeat([]byte("0123456789abcde\n"), limit/16+1)[:limit]
	for _, chunked := range []bool{false, true} {
		r := Request{Method: "PUT", Target: path, Body: value, Chunked: chunked}
		c.want(200, r)
		if a := c.want(200, get(path+"?raw=true")); !bytes.Equal(a.Body, value) {
			c.t.Errorf("a value of %d bytes did not come back", limit)
		}
		if got, ok := c.decode(c.want(200, get(path))).Values[0].bytes(); !ok || got != string(value) {
			c.t.Errorf("a value of %d bytes did not come back in JSON", limit)
		}
		r.Body = append(value[:limit:limit], 'x')
		c.want(413, r)
		if a := c.want(200, get(path+"?raw=true")); !bytes.Equal(a.Body, value) {
			c.t.Error("a value that is too large changed the key")
		}
	}
	// What is declared too large is refused before it is there.
	c.want(413, Request{Method: "PUT", Target: path, Length: 1 << 40})
	// Nothing is read that is refused for another reason, and a client that waits for 100 need not send it.
	c.want(400, Request{Method: "PUT", Target: path + "?w=x", Length: limit, Header: []string{"Expect", "100-continue"}})
	c.want(413, Request{Method: "PUT", Target: path, Length: limit + 1, Header: []string{"Expect", "100-continue"}})
}

// testBrokenBodies sends bodies that end too early: nothing may be written.
func testBrokenBodies(c *client) {
	path := "/v1/kv/" + fresh("broken-") + "/k"
	for _, wire := range []string{
		"PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345",
		"PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n12345",
		"PUT %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
		"PUT %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n12345\r\n0\r\n\r\n",
	} {
		conn, err := net.DialTimeout("tcp", c.nodes[0], 5*time.Second)
		if err != nil {
			c.t.Fatal(err)
		}
		fmt.Fprintf(conn, wire, path)
		conn.(*net.TCPConn).CloseWrite()
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		answer := make([]byte, 4096)
		n, _ := conn.Read(answer)
		if n > 0 && !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 400 ") {
			c.t.Errorf("%q: got %s", wire, answer[:n])
		}
		conn.Close()
		c.want(404, get(path+"?r=all"))
	}
	// Two requests in one packet, and an old protocol.
	conn, err := net.DialTimeout("tcp", c.nodes[0], 5*time.Second)
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n123GET %s?raw=true HTTP/1.0\r\n\r\n", path, path)
	var all bytes.Buffer
	all.ReadFrom(conn)
	if s := all.String(); strings.Count(s, "200 OK") != 2 || !strings.HasSuffix(s, "\r\n\r\n123") {
		c.t.Errorf("two requests in one packet: got %s", s)
	}
}

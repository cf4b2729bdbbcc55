package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// conn is one persistent HTTP/1.1 connection that reads no more of an answer than it must. Not safe for concurrent use.
type conn struct {
	net     net.Conn
	in      *bufio.Reader
	timeout time.Duration
	limit   time.Time // the deadline that is set
}

func dial(ctx context.Context, addr string, timeout time.Duration) (*conn, error) {
	d := net.Dialer{Timeout: min(timeout, 3*time.Second)}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{net: c, in: bufio.NewReaderSize(c, 16<<10), timeout: timeout}, nil
}

// reply is what an answer says, as far as load cares.
type reply struct {
	status int
	code   string // of a problem document
	close  bool   // the server ends the connection
}

// do sends one rendered request and reads its answer. After an error the connection is of no use.
func (c *conn) do(request []byte, now time.Time) (reply, error) {
	// A deadline costs a timer, so it is set about once a second and not for each request.
	if c.limit.Sub(now) < c.timeout {
		c.limit = now.Add(c.timeout + time.Second)
		if err := c.net.SetDeadline(c.limit); err != nil {
			return reply{}, err
		}
	}
	if _, err := c.net.Write(request); err != nil {
		return reply{}, err
	}
	return c.readReply()
}

func (c *conn) readReply() (reply, error) {
	var r reply
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return r, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return r, fmt.Errorf("not an HTTP answer: %.40q", line)
	}
	for _, d := range line[9:12] {
		if d < '0' || d > '9' {
			return r, fmt.Errorf("bad status line: %.40q", line)
		}
		r.status = r.status*10 + int(d-'0')
	}
	length, chunked := int64(-1), false
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return r, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		switch line[0] | 0x20 { // most headers start with another letter and cost one comparison
		case 'c', 't':
		default:
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.ParseInt(string(value), 10, 64); err != nil || length < 0 {
				return r, fmt.Errorf("bad Content-Length: %.40q", value)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Connection")):
			r.close = bytes.EqualFold(value, []byte("close"))
		}
	}
	switch {
	case r.status == 204 || r.status == 304:
		return r, nil
	case chunked:
		err = c.skipChunks()
		if r.status >= 400 {
			r.code = "http_" + strconv.Itoa(r.status)
		}
	case length < 0:
		return r, errors.New("answer without a length")
	case r.status >= 400 && length <= 64<<10:
		body := make([]byte, length)
		if _, err = io.ReadFull(c.in, body); err == nil {
			r.code = problemCode(r.status, body)
		}
	default:
		err = c.skip(length)
	}
	return r, err
}

// skip drops n bytes of an answer.
func (c *conn) skip(n int64) error {
	for n > 0 {
		d, err := c.in.Discard(int(min(n, 1<<20)))
		n -= int64(d)
		if err != nil {
			return err
		}
	}
	return nil
}

// skipChunks drops a chunked body.
func (c *conn) skipChunks() error {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(";"))
		n, err := strconv.ParseInt(string(size), 16, 63)
		if err != nil {
			return fmt.Errorf("bad chunk size: %.40q", size)
		}
		if n > 0 {
			if err := c.skip(n + 2); err != nil { // and the line end
				return err
			}
			continue
		}
		for { // trailers
			line, err := c.in.ReadSlice('\n')
			if err != nil || len(bytes.TrimSpace(line)) == 0 {
				return err
			}
		}
	}
}

// problemCode is the stable code of a problem document, or one made of the status.
func problemCode(status int, body []byte) string {
	var p struct{ Code string }
	if err := json.Unmarshal(body, &p); err != nil || p.Code == "" {
		return "http_" + strconv.Itoa(status)
	}
	return p.Code
}

// errorCode names a failure of the connection in the counts of a result.
func errorCode(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection_refused"
	}
	return "connection_lost"
}

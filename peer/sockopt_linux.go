package peer

import (
	"net"
	"syscall"
	"time"
)

// tcpUserTimeout is the socket option of tcp(7): how long sent data may stay unacknowledged.
const tcpUserTimeout = 0x12

// tune makes the kernel give up a connection whose other end has vanished after about userTimeout, instead of retrying for
// a quarter of an hour. Connections that are not TCP are left as they are.
func tune(nc net.Conn, userTimeout time.Duration) error {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	if err := tc.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: userTimeout, Interval: userTimeout / 3, Count: 3}); err != nil {
		return err
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) {
		set = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(userTimeout/time.Millisecond))
	}); err != nil {
		return err
	}
	return set
}

// directWriter writes to a socket as far as its buffer has room, and never waits. It is not safe for concurrent use.
type directWriter struct {
	raw  syscall.RawConn
	call func(fd uintptr) bool
	buf  []byte
	n    int
	err  error
}

// newDirectWriter returns nil where the connection is not a plain socket.
func newDirectWriter(nc net.Conn) *directWriter {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return nil
	}
	d := &directWriter{raw: raw}
	d.call = d.write
	return d
}

func (d *directWriter) write(fd uintptr) bool {
	for {
		n, err := syscall.Write(int(fd), d.buf)
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EAGAIN {
			n, err = 0, nil
		}
		d.n, d.err = max(n, 0), err
		return true
	}
}

// try writes what fits and returns how much that was, 0 without an error where nothing fits now.
func (d *directWriter) try(buf []byte) (int, error) {
	d.buf, d.n, d.err = buf, 0, nil
	if err := d.raw.Write(d.call); err != nil {
		d.err = err
	}
	d.buf = nil
	return d.n, d.err
}

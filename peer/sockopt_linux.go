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

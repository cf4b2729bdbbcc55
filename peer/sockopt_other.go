//go:build !linux

package peer

import (
	"net"
	"time"
)

// tune sets keep-alive probes; there is no user timeout to set here, so a vanished peer is found by pings alone.
func tune(nc net.Conn, userTimeout time.Duration) error {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	return tc.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: userTimeout, Interval: userTimeout / 3, Count: 3})
}

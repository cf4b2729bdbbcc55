package memnet

import (
	"context"
	"net"
	"strconv"
	"time"
)

// dial opens a stream; it ends early with net.ErrClosed when closed is.
func (h *Host) dial(ctx context.Context, to string, closed <-chan struct{}) (net.Conn, error) {
	n := h.network
	refuse := func(err error) error {
		return &net.OpError{Op: "dial", Net: "memnet", Addr: address(to), Err: err}
	}
	// retransmit is after how long a dial asks again where the backlog was full.
	const retransmit = time.Second
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	ready := time.Time{} // when the handshake is over; zero while it has not begun
	for {
		if err := ctx.Err(); err != nil {
			return nil, refuse(err)
		}
		n.mu.Lock()
		if h.dead {
			n.mu.Unlock()
			return nil, refuse(errDown)
		}
		changed, wait := n.changed, time.Duration(-1)
		from, target := h.machine.name, n.name(hostOf(to))
		there, back := n.path(from, target), n.path(target, from)
		m := n.machines[target]
		switch {
		case from != target && (there.rule.Cut || back.rule.Cut || h.paused || m != nil && m.off):
			ready = time.Time{}
		case ready.IsZero():
			if wait = n.extra(there.rule) + n.extra(back.rule); wait > 0 {
				ready = time.Now().Add(wait)
				break
			}
			fallthrough
		case time.Until(ready) <= 0:
			s, err := h.connect(there, back, to)
			if s != nil || err != nil {
				n.mu.Unlock()
				if err != nil {
					return nil, refuse(err)
				}
				return s, nil
			}
			ready, wait = time.Time{}, retransmit
		default:
			wait = time.Until(ready)
		}
		n.mu.Unlock()
		if wait >= 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-changed:
		case <-timer.C:
		case <-h.down:
		case <-ctx.Done():
		case <-closed:
			return nil, refuse(net.ErrClosed)
		}
	}
}

// connect makes the stream where somebody listens; nil and no error means that the backlog is full. The caller holds mu.
func (h *Host) connect(there, back *path, to string) (net.Conn, error) {
	n := h.network
	sock := n.sockets[to]
	if sock == nil {
		return nil, errRefused
	}
	local := address(net.JoinHostPort(h.machine.addr, strconv.Itoa(h.machine.ephemeral())))
	c := newConn(h, sock.owner(), there, back, local, address(to))
	if !sock.accept(&c.ends[1]) {
		return nil, nil
	}
	n.conns[c] = struct{}{}
	return &c.ends[0], nil
}

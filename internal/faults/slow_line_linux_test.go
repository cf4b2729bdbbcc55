package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/rondodb/rondo/internal/proc"
)

// slowLine is a link that carries all packets of one node through this process, which holds each back for a while. The node's port
// is taken off the switch's bridge and put on a bridge of its own; two TAP devices and a copier connect the two bridges. Both
// directions are delayed, for the other nodes as for clients.
type slowLine struct {
	delay     time.Duration // of each packet, each way
	jitter    time.Duration // up to this much more, drawn for each packet; packets then overtake each other
	duplicate float64       // share of packets that arrive twice
}

// slow makes everything that a node sends and receives late, until the returned function is called.
func (n *network) slow(p *proc.Process, line slowLine) (heal func()) {
	n.t.Helper()
	lobby := n.prefix + ".switch"
	outer, inner, err := n.taps(lobby)
	if err != nil {
		n.t.Fatal(err)
	}
	var copiers sync.WaitGroup
	copiers.Go(func() { line.carry(outer, inner, n.t.Error) })
	copiers.Go(func() { line.carry(inner, outer, n.t.Error) })
	heal = sync.OnceFunc(func() {
		err := sh("", "ip", "-n", lobby, "link", "set", p.Name, "master", "bridge0")
		if err := errors.Join(err, outer.Close(), inner.Close(), sh("", "ip", "-n", lobby, "link", "del", "br-slow")); err != nil {
			n.t.Error(err)
		}
		copiers.Wait()
	})
	n.t.Cleanup(heal)
	if err := inTurn(
		"ip -n "+lobby+" link add br-slow type bridge",
		"ip -n "+lobby+" link set br-slow up",
		"ip -n "+lobby+" link set "+n.prefix+"o master bridge0 up",
		"ip -n "+lobby+" link set "+n.prefix+"i master br-slow up",
		"ip -n "+lobby+" link set "+p.Name+" master br-slow",
	); err != nil {
		n.t.Fatal(err)
	}
	return heal
}

// taps makes the two devices and moves them to the switch's namespace. Closing them removes them.
func (n *network) taps(lobby string) (outer, inner *os.File, err error) {
	var files []*os.File
	for _, end := range []string{"o", "i"} {
		f, err := openTAP(n.prefix + end)
		if err == nil {
			files = append(files, f)
			err = sh("", "ip", "link", "set", n.prefix+end, "netns", lobby)
		}
		if err != nil {
			for _, f := range files {
				err = errors.Join(err, f.Close())
			}
			return nil, nil, err
		}
	}
	return files[0], files[1], nil
}

// openTAP makes a device of Ethernet frames; it is gone when the file is closed.
func openTAP(name string) (*os.File, error) {
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	var request struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:syscall.IFNAMSIZ-1], name)
	request.flags = syscall.IFF_TAP | syscall.IFF_NO_PI
	if _, _, number := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TUNSETIFF, uintptr(unsafe.Pointer(&request))); number != 0 {
		return nil, errors.Join(fmt.Errorf("make TAP device %s: %w", name, number), syscall.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// frameQueue is how many packets wait at most in one direction; more are dropped, as any router does.
const frameQueue = 8192

// carry moves packets from one device to the other, late, until a device is closed. Then it has left nothing behind.
func (l slowLine) carry(from, to *os.File, fail func(...any)) {
	write := func(frame []byte) {
		// A device that is full drops, as any link does.
		if _, err := to.Write(frame); err != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.EAGAIN) {
			fail(fmt.Sprintf("write to %s: %v", to.Name(), err))
		}
	}
	type parcel struct {
		frame []byte
		due   time.Time
	}
	queue := make(chan parcel, frameQueue)
	var late sync.WaitGroup
	late.Go(func() {
		for p := range queue {
			time.Sleep(time.Until(p.due))
			write(p.frame)
		}
	})
	defer late.Wait()
	defer close(queue)
	buffer := make([]byte, 64<<10)
	for {
		size, err := from.Read(buffer)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if errors.Is(err, syscall.EBADFD) || errors.Is(err, syscall.EIO) { // it is not up yet
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			fail(fmt.Sprintf("read from %s: %v", from.Name(), err))
			return
		}
		frame := append([]byte{}, buffer[:size]...)
		if l.jitter == 0 {
			select {
			case queue <- parcel{frame, time.Now().Add(l.delay)}:
			default:
			}
			continue
		}
		copies := 1
		if rand.Float64() < l.duplicate {
			copies = 2
		}
		for range copies {
			late.Add(1)
			time.AfterFunc(l.delay+rand.N(l.jitter), func() {
				defer late.Done()
				write(frame)
			})
		}
	}
}

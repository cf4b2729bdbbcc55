package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rondodb/rondo/internal/proc"
)

// network is network namespaces with one node in each, and one more that is their switch, where packets are dropped. The test
// itself is plugged into the switch too, so that its clients reach all nodes. Drops at the switch are silent, as in a real network:
// no sender gets an error.
type network struct {
	t      *testing.T
	prefix string // of the names of everything that it makes
	net    netip.Prefix
	addr   map[*proc.Process]netip.Addr
}

// The names of all that tests make: rondo, the number of the test's process in base 36, "-", a number in that process. Interfaces
// have this name (at most 15 bytes); namespaces have it with a dot and what they are.
var (
	names   = regexp.MustCompile(`^rondo([0-9a-z]{1,6})-[0-9a-z]{1,3}\.(?:switch|n[0-9]+)$`)
	made    int
	makings sync.Mutex // one at a time makes namespaces: the first one ever also mounts /run/netns
	sweep   = sync.OnceValue(sweepDead)
)

// rules are what the switch does: each fault fills a set or the chain named loss, and heal empties them.
const rules = `table bridge faults {
	set cut { type ipv4_addr . ipv4_addr; }
	set half { type ipv4_addr . inet_service . ipv4_addr . inet_service; }
	chain loss { }
	chain forward {
		type filter hook forward priority 0; policy accept;
		ip saddr . ip daddr @cut drop
		ip saddr . tcp sport . ip daddr . tcp dport @half drop
		jump loss
	}
}
`

// namespaces makes a network with count nodes n1, n2, … that are not started yet. It skips the test where this machine cannot.
// Everything is removed with the test; what a killed run left is removed here.
func namespaces(t *testing.T, count int) (*network, *cluster) {
	t.Helper()
	if os.Geteuid() != 0 {
		lacks(t, "network namespaces need root")
	}
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			lacks(t, "the programs ip (iproute2) and nft (nftables) are needed: "+err.Error())
		}
	}
	if err := sweep(); err != nil {
		t.Fatal(err)
	}
	makings.Lock()
	defer makings.Unlock()
	made++
	n := &network{t: t, prefix: "rondo" + strconv.FormatInt(int64(os.Getpid()), 36) + "-" + strconv.FormatInt(int64(made), 36), addr: map[*proc.Process]netip.Addr{}}
	var err error
	if n.net, err = freeNet(); err != nil {
		lacks(t, err.Error())
	}
	lobby := n.prefix + ".switch"
	if err := n.space(lobby); err != nil {
		lacks(t, "cannot make a network namespace: "+err.Error())
	}
	test := n.net.Addr().Next()
	err = inTurn(
		"ip -n "+lobby+" link add bridge0 type bridge",
		"ip -n "+lobby+" link set bridge0 up",
		"ip link add "+n.prefix+" type veth peer name test netns "+lobby,
		"ip -n "+lobby+" link set test master bridge0 up",
		"ip addr add "+test.String()+"/24 dev "+n.prefix,
		"ip link set "+n.prefix+" up",
	)
	if err == nil {
		err = sh(rules, "ip", "netns", "exec", lobby, "nft", "-f", "-")
	}
	if err != nil {
		lacks(t, "cannot make a bridge with nft rules in a network namespace: "+err.Error())
	}
	t.Cleanup(func() { // the kernel would get to it some time after its namespace is gone
		if err := sh("", "ip", "link", "del", n.prefix); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	var nodes []*proc.Process
	var join []string
	for i := range count {
		name := "n" + strconv.Itoa(i+1)
		space, addr := n.prefix+"."+name, nth(n.net, 11+i)
		p := proc.New(proc.Spec{
			Binary: binary, Prefix: []string{"ip", "netns", "exec", space}, Name: name, Cluster: "faults",
			Host: addr.String(), HTTP: 7070, Peer: peerPort, Gossip: 7072,
			Data: filepath.Join(dir, name), Log: filepath.Join(dir, name+".log"), Expect: count, Args: []string{"--insecure"},
		})
		if err := n.space(space); err != nil {
			t.Fatal(err)
		}
		if err := inTurn(
			"ip link add eth0 netns "+space+" type veth peer name "+name+" netns "+lobby,
			"ip -n "+lobby+" link set "+name+" master bridge0 up",
			"ip -n "+space+" addr add "+addr.String()+"/24 dev eth0",
			"ip -n "+space+" link set lo up",
			"ip -n "+space+" link set eth0 up",
		); err != nil {
			t.Fatal(err)
		}
		n.addr[p] = addr
		nodes, join = append(nodes, p), append(join, addr.String()+":7072")
	}
	for _, p := range nodes {
		p.Join = join
	}
	return n, newCluster(t, nodes)
}

// peerPort is where nodes in namespaces speak the replica protocol.
const peerPort = 7071

// space makes a namespace that goes with the test. What is in it, and the other ends of its links, go with it.
func (n *network) space(name string) error {
	if err := sh("", "ip", "netns", "add", name); err != nil {
		return err
	}
	n.t.Cleanup(func() {
		if err := sh("", "ip", "netns", "del", name); err != nil {
			n.t.Error(err)
		}
	})
	return nil
}

// switchRules changes the rules of the switch, all at once.
func (n *network) switchRules(script string) {
	n.t.Helper()
	if err := sh(script, "ip", "netns", "exec", n.prefix+".switch", "nft", "-f", "-"); err != nil {
		n.t.Fatal(err)
	}
}

// cut drops every packet between two groups of nodes, both ways.
func (n *network) cut(a, b []*proc.Process) {
	n.t.Helper()
	n.switchRules(n.drop(a, b) + n.drop(b, a))
}

// mute drops every packet from one group of nodes to another; the other way stays open.
func (n *network) mute(from, to []*proc.Process) {
	n.t.Helper()
	n.switchRules(n.drop(from, to))
}

// drop is the rules that drop packets from one group of nodes to another.
func (n *network) drop(from, to []*proc.Process) string {
	var b strings.Builder
	for _, p := range from {
		for _, q := range to {
			fmt.Fprintf(&b, "add element bridge faults cut { %v . %v }\n", n.addr[p], n.addr[q])
		}
	}
	return b.String()
}

// loseUDP drops this many percent of all UDP packets between nodes.
func (n *network) loseUDP(percent int) {
	n.t.Helper()
	n.switchRules(fmt.Sprintf("add rule bridge faults loss meta l4proto udp numgen random mod 100 < %d counter drop\n", percent))
}

// heal lets every packet through again.
func (n *network) heal() {
	n.t.Helper()
	n.switchRules("flush set bridge faults cut\nflush set bridge faults half\nflush chain bridge faults loss\n")
}

// inTurn runs command lines, whose words are split at blanks, one after the other until one fails.
func inTurn(lines ...string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		if err := sh("", words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// sh runs a program to its end; its output is part of the error.
func sh(input, name string, args ...string) error {
	_, err := output(input, name, args...)
	return err
}

// output is what a program prints.
func output(input, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Stdin = strings.NewReader(input)
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// freeNet picks a network 10.x.y.0/24 at random that overlaps with none of this machine's routes but the default one.
func freeNet() (netip.Prefix, error) {
	out, err := output("", "ip", "-4", "route", "show", "table", "all")
	if err != nil {
		return netip.Prefix{}, err
	}
	var used []netip.Prefix
	for _, word := range strings.Fields(out) {
		if p, err := netip.ParsePrefix(word); err == nil {
			used = append(used, p)
		} else if a, err := netip.ParseAddr(word); err == nil && a.Is4() {
			used = append(used, netip.PrefixFrom(a, 32))
		}
	}
	for range 1000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(rand.IntN(256)), byte(rand.IntN(256)), 0}), 24)
		if !slices.ContainsFunc(used, p.Overlaps) {
			return p, nil
		}
	}
	return netip.Prefix{}, errors.New("this machine routes all of 10.0.0.0/8: no network is left for the nodes")
}

// nth is an address of a network.
func nth(p netip.Prefix, n int) netip.Addr {
	b := p.Addr().As4()
	b[3] += byte(n)
	return netip.AddrFrom4(b)
}

// sweepDead removes the namespaces of runs that were killed: those named by these tests whose process is gone, and in which no
// process lives.
func sweepDead() error {
	out, err := output("", "ip", "netns", "list")
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		m := names.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		pid, err := strconv.ParseInt(m[1], 36, 32)
		if err != nil || pid <= 0 || !errors.Is(syscall.Kill(int(pid), 0), syscall.ESRCH) {
			continue // it runs, or it is not one of ours
		}
		lives, err := output("", "ip", "netns", "pids", name)
		if err != nil {
			return err
		}
		if strings.TrimSpace(lives) != "" {
			continue
		}
		if err := sh("", "ip", "netns", "del", name); err != nil {
			return err
		}
	}
	return nil
}

package gossip

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"
	"pgregory.net/rapid"

	"github.com/rondodb/rondo/ring"
)

func someMeta(t *rapid.T) meta {
	text := func(label string, least int) string {
		return rapid.StringOfN(rapid.Rune(), least, 16, ring.MaxName).Draw(t, label)
	}
	m := meta{
		Flags:         rapid.Byte().Draw(t, "flags"),
		Weight:        uint16(rapid.IntRange(1, ring.MaxWeight).Draw(t, "weight")),
		Expect:        uint16(rapid.IntRange(1, ring.MaxMembers).Draw(t, "expect")),
		Partitions:    rapid.Uint32().Draw(t, "partitions"),
		LayoutVersion: rapid.Uint64().Draw(t, "version"), LayoutHash: rapid.Uint64().Draw(t, "hash"),
		SettingsHash: rapid.Uint64().Draw(t, "settings"), FreshSet: rapid.Uint64().Draw(t, "fresh"), Process: rapid.Uint64().Draw(t, "process"),
		Name: text("name", 1), Zone: text("zone", 0), HTTPAddr: "[::1]:7070", PeerAddr: "node-1.example:7071", Version: text("build", 0),
	}
	if m.LayoutVersion > 0 {
		m.ClusterID = text("cluster", 1)
	}
	return m
}

func TestMetaRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := someMeta(t)
		b := want.append(nil, rapid.IntRange(0, maxPad).Draw(t, "padding"))
		if len(b) > memberlist.MetaMaxSize {
			t.Fatalf("%d bytes", len(b))
		}
		got, err := decodeMeta(b)
		if err != nil || got != want {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
		later := append(bytes.Clone(b), rapid.SliceOf(rapid.Byte()).Draw(t, "appended by a later format")...)
		later[0] = byte(rapid.IntRange(2, 255).Draw(t, "format"))
		if got, err := decodeMeta(later); err != nil || got != want {
			t.Fatalf("later format: got %+v, %v, want %+v", got, err, want)
		}
		if _, err := decodeMeta(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]); err == nil {
			t.Fatal("a cut description was read")
		}
	})
}

func FuzzDecodeMeta(f *testing.F) {
	m := meta{Weight: 1, Expect: 3, Partitions: 256, LayoutVersion: 1, ClusterID: "c", Name: "n1", HTTPAddr: "h:1", PeerAddr: "p:2"}
	f.Add(m.append(nil, 0))
	f.Add([]byte{2})
	f.Add(append(append(make([]byte, metaFixed), 255), make([]byte, 300)...)) // the longest text
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := decodeMeta(m.append(nil, 0))
		if err != nil || again != m {
			t.Errorf("got %+v, %v, want %+v", again, err, m)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	good := func() Config {
		return Config{
			Self: testID(1), Name: "n", Cluster: "c", HTTPAddr: "h:1", PeerAddr: "p:1", Bind: "127.0.0.1:0",
			Meta: &memStore{}, Peers: &host{},
		}
	}
	c := good()
	if err := c.validate(); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 200)
	for what, change := range map[string]func(*Config){
		"node id":         func(c *Config) { c.Self = "n1" },
		"name":            func(c *Config) { c.Name = "" },
		"zone":            func(c *Config) { c.Zone = long },
		"cluster name":    func(c *Config) { c.Cluster = long },
		"HTTP address":    func(c *Config) { c.HTTPAddr = "7070" },
		"gossip address":  func(c *Config) { c.Bind = "localhost" },
		"address to join": func(c *Config) { c.Join = []string{"n2"} },
		"expected":        func(c *Config) { c.Expect = -1 },
		"partitions":      func(c *Config) { c.Partitions = 12 },
		"weight":          func(c *Config) { c.Weight = 5000 },
		"too long":        func(c *Config) { c.HTTPAddr, c.PeerAddr = long+":1", long+":1" },
	} {
		c := good()
		change(&c)
		if err := c.validate(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want an error about %s", err, what)
		}
	}
}

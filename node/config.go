package node

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// Config is how one node runs. The zero value of each field means its default; Settings lists them all with their flags.
type Config struct {
	Data       string   // directory of the node's identity and data
	Name       string   // for people; identity is the id kept in Data
	Cluster    string   // nodes of another cluster name never mix
	HTTP       string   // client and operator API, host:port; port 0 picks a free one
	Peer       string   // replica traffic, host:port, TCP
	Gossip     string   // membership, host:port, TCP and UDP
	Advertise  string   // host that others dial; "" = the bind address
	Join       []string // gossip addresses or DNS names of nodes to meet
	Expect     int      // fresh nodes that form the first ring together
	Zone       string   // failure domain
	Weight     int      // share of partitions relative to other nodes
	Insecure   bool     // binds outside loopback without encryption are meant
	Partitions int      // power of two, fixed when the cluster forms
	MaxValue   int64    // bytes of one value, at most
	Cache      int64    // bytes of the object cache
	Reserve    int64    // bytes of the volume that client writes leave free; 0 = automatic
	HintLimit  int64    // bytes of hints for one node; 0 = automatic
	Repair     string   // what repairs by itself: all, none, or a list of exchange, hints, collect, verify
	AcceptLoss bool     // data that no other node can bring back are given up
	LogLevel   string   // debug, info, warn or error
	LogFormat  string   // text or json

	machine machine // what stands in for this machine, in tests
}

// Setting is one configuration value: the flag --Name, the variable RONDO_NAME and the key Name of the configuration file.
type Setting struct {
	Name    string
	Value   string // placeholder for help; "" for a boolean
	Default string
	Usage   string

	set func(*Config, string) error
	get func(*Config) string
}

// Env is the environment variable of the setting: --max-value is RONDO_MAX_VALUE.
func (s Setting) Env() string {
	return "RONDO_" + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
}

// Bool tells whether the setting is a switch.
func (s Setting) Bool() bool { return s.Value == "" }

// Settings lists every setting in the order of the help text.
func Settings() []Setting {
	return []Setting{
		text("data", "DIR", "./data", "the node's identity and data live here; a second process on it is refused", func(c *Config) *string { return &c.Data }),
		text("name", "NAME", "", "name for people (default: the host name); identity is the id kept in --data", func(c *Config) *string { return &c.Name }),
		text("cluster", "NAME", "rondo", "nodes of another cluster name never mix", func(c *Config) *string { return &c.Cluster }),
		text("http", "HOST:PORT", "127.0.0.1:7070", "client and operator API", func(c *Config) *string { return &c.HTTP }),
		text("peer", "HOST:PORT", "127.0.0.1:7071", "replica traffic, TCP", func(c *Config) *string { return &c.Peer }),
		text("gossip", "HOST:PORT", "127.0.0.1:7072", "membership, TCP and UDP", func(c *Config) *string { return &c.Gossip }),
		text("advertise", "HOST", "", "what others dial (default: the bind address)", func(c *Config) *string { return &c.Advertise }),
		list("join", "HOST:PORT,…", "gossip addresses or DNS names (all their addresses); retried for as long as it takes", func(c *Config) *[]string { return &c.Join }),
		number("expect", "N", 1, "a fresh cluster forms its first ring only when N fresh nodes see each other", 1, 1000, func(c *Config) *int { return &c.Expect }),
		text("zone", "ZONE", "", "failure domain: replicas are spread over zones", func(c *Config) *string { return &c.Zone }),
		number("weight", "N", 1, "share of the partitions relative to other nodes, at the time the node joins", 1, 1000, func(c *Config) *int { return &c.Weight }),
		boolean("insecure", "an open network is meant: bind outside loopback without encryption or authentication", func(c *Config) *bool { return &c.Insecure }),
		number("partitions", "N", 256, "power of two, fixed when the cluster forms", 1, 65536, func(c *Config) *int { return &c.Partitions }),
		size("max-value", "SIZE", "4MiB", "largest value in bytes, at most 32MiB", func(c *Config) *int64 { return &c.MaxValue }),
		size("cache", "SIZE", "128MiB", "memory for the cache of objects", func(c *Config) *int64 { return &c.Cache }),
		automatic("reserve", "client writes stop where less of the volume is free (auto: 64MiB and 5 % of it, a quarter at most)", func(c *Config) *int64 { return &c.Reserve }),
		automatic("hint-limit", "most that is kept for one node that is away (auto: 1GiB, or 10 % of the volume where that is less)", func(c *Config) *int64 { return &c.HintLimit }),
		repair("repair", "what runs by itself: all, none, or a list of "+strings.Join(repairWords, ", "), func(c *Config) *string { return &c.Repair }),
		boolean("accept-loss", "data that were lost and that no other node has are given up: the node answers for what is left", func(c *Config) *bool { return &c.AcceptLoss }),
		choice("log-level", "LEVEL", "info", []string{"debug", "info", "warn", "error"}, "what is logged", func(c *Config) *string { return &c.LogLevel }),
		choice("log-format", "FORMAT", "text", []string{"text", "json"}, "form of log lines", func(c *Config) *string { return &c.LogFormat }),
	}
}

func text(name, value, def, usage string, field func(*Config) *string) Setting {
	return Setting{
		Name: name, Value: value, Default: def, Usage: usage,
		set: func(c *Config, v string) error { *field(c) = v; return nil },
		get: func(c *Config) string { return *field(c) },
	}
}

func choice(name, value, def string, words []string, usage string, field func(*Config) *string) Setting {
	s := text(name, value, def, usage+": "+strings.Join(words, ", "), field)
	s.set = func(c *Config, v string) error {
		for _, w := range words {
			if v == w {
				*field(c) = v
				return nil
			}
		}
		return fmt.Errorf("%q: use one of %s", v, strings.Join(words, ", "))
	}
	return s
}

func list(name, value, usage string, field func(*Config) *[]string) Setting {
	return Setting{
		Name: name, Value: value, Usage: usage,
		set: func(c *Config, v string) error {
			*field(c) = nil
			for _, part := range strings.Split(v, ",") {
				if part = strings.TrimSpace(part); part != "" {
					*field(c) = append(*field(c), part)
				}
			}
			return nil
		},
		get: func(c *Config) string { return strings.Join(*field(c), ",") },
	}
}

func number(name, value string, def int, usage string, low, high int, field func(*Config) *int) Setting {
	return Setting{
		Name: name, Value: value, Default: strconv.Itoa(def), Usage: usage,
		set: func(c *Config, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < low || n > high {
				return fmt.Errorf("%q: use a whole number from %d to %d", v, low, high)
			}
			*field(c) = n
			return nil
		},
		get: func(c *Config) string { return strconv.Itoa(*field(c)) },
	}
}

func boolean(name, usage string, field func(*Config) *bool) Setting {
	return Setting{
		Name: name, Default: "false", Usage: usage,
		set: func(c *Config, v string) error {
			switch v {
			case "true", "1":
				*field(c) = true
			case "false", "0":
				*field(c) = false
			default:
				return fmt.Errorf("%q: use true or false", v)
			}
			return nil
		},
		get: func(c *Config) string { return strconv.FormatBool(*field(c)) },
	}
}

func size(name, value, def, usage string, field func(*Config) *int64) Setting {
	return Setting{
		Name: name, Value: value, Default: def, Usage: usage,
		set: func(c *Config, v string) (err error) { *field(c), err = parseSize(v); return err },
		get: func(c *Config) string { return formatSize(*field(c)) },
	}
}

// automatic is a size, or "auto": 0.
func automatic(name, usage string, field func(*Config) *int64) Setting {
	return Setting{
		Name: name, Value: "SIZE", Default: "auto", Usage: usage,
		set: func(c *Config, v string) (err error) {
			if v == "auto" {
				*field(c) = 0
				return nil
			}
			*field(c), err = parseSize(v)
			return err
		},
		get: func(c *Config) string {
			if n := *field(c); n != 0 {
				return formatSize(n)
			}
			return "auto"
		},
	}
}

func repair(name, usage string, field func(*Config) *string) Setting {
	s := text(name, "WORDS", "all", usage, field)
	s.set = func(c *Config, v string) error {
		if _, err := repairs(v); err != nil {
			return err
		}
		*field(c) = v
		return nil
	}
	return s
}

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}}

// parseSize reads a number of bytes with an optional unit: 4096, 64KiB, 4MiB, 1GiB.
func parseSize(v string) (int64, error) {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(v, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n <= 0 || n > 1<<50/u.bytes {
			break
		}
		return n * u.bytes, nil
	}
	return 0, fmt.Errorf("%q is not a size: use bytes, or KiB, MiB, GiB, as in 4MiB", v)
}

func formatSize(n int64) string {
	for _, u := range sizeUnits {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// Limits of the configuration.
const (
	maxValueLimit = 32 << 20 // bytes
	minCache      = 1 << 20  // bytes
	maxNameLen    = 64       // bytes
)

// validate fills defaults and rejects what cannot work, with what to do instead.
func (c *Config) validate() error {
	for _, s := range Settings() {
		if zero := s.get(&Config{}); s.get(c) == zero && s.Default != "" && s.Default != zero {
			if err := s.set(c, s.Default); err != nil {
				return fmt.Errorf("default of --%s: %w", s.Name, err)
			}
		}
	}
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find the host name: %w; set --name", err)
		}
		c.Name = host
	}
	if len(c.Name) > maxNameLen || len(c.Zone) > maxNameLen || len(c.Cluster) > maxNameLen {
		return fmt.Errorf("--name, --zone and --cluster are at most %d bytes each", maxNameLen)
	}
	if c.Partitions&(c.Partitions-1) != 0 {
		return fmt.Errorf("--partitions %d is not a power of two", c.Partitions)
	}
	if c.MaxValue > maxValueLimit {
		return fmt.Errorf("--max-value %s is beyond the limit of %s", formatSize(c.MaxValue), formatSize(maxValueLimit))
	}
	c.Cache = max(c.Cache, minCache)
	for _, a := range []struct{ flag, addr string }{{"http", c.HTTP}, {"peer", c.Peer}, {"gossip", c.Gossip}} {
		_, port, err := net.SplitHostPort(a.addr)
		if err != nil {
			return fmt.Errorf("--%s %q is not HOST:PORT: %w", a.flag, a.addr, err)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("--%s %q: port %q is not a number from 0 to 65535", a.flag, a.addr, port)
		}
		if !c.Insecure && !loopback(a.addr) {
			return fmt.Errorf("--%s %s is outside loopback, and this release has no encryption or authentication yet: "+
				"bind to 127.0.0.1, or say --insecure if everyone on that network may read and write all data", a.flag, a.addr)
		}
	}
	return nil
}

// loopback tells whether only this machine can reach addr.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// advertiseHost is the host others dial for a listener bound to bindHost: --advertise, else the bind address; where that is
// "any address", the first global address of this host's name, else of its interfaces.
func (c *Config) advertiseHost(bindHost string) (string, error) {
	if c.Advertise != "" {
		return c.Advertise, nil
	}
	if ip := net.ParseIP(bindHost); bindHost != "" && (ip == nil || !ip.IsUnspecified()) {
		return bindHost, nil
	}
	if host, err := os.Hostname(); err == nil {
		if ips, err := net.LookupIP(host); err == nil {
			if ip := firstGlobal(ips); ip != "" {
				return ip, nil
			}
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("list interface addresses: %w; set --advertise", err)
	}
	var ips []net.IP
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			ips = append(ips, n.IP)
		}
	}
	if ip := firstGlobal(ips); ip != "" {
		return ip, nil
	}
	return "", fmt.Errorf("no address to tell others for a listener on every interface: set --advertise")
}

// firstGlobal prefers IPv4, as the simplest to dial from anywhere.
func firstGlobal(ips []net.IP) string {
	v6 := ""
	for _, ip := range ips {
		switch {
		case !ip.IsGlobalUnicast():
		case ip.To4() != nil:
			return ip.String()
		case v6 == "":
			v6 = ip.String()
		}
	}
	return v6
}

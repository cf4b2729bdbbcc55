package peer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/rondodb/rondo/ring"
)

func exampleFrame(payload []byte) []byte {
	b := beginFrame(nil, header{op: OpWrite, flags: flagSync, id: 0x0102030405060708, timeout: 1_500_000, layout: 9})
	return sealFrame(append(b, payload...), 0)
}

// The wire format may only change together with the protocol version.
func TestGoldenBytes(t *testing.T) {
	key := ring.NewKey("bücket", "name")
	tests := []struct {
		name string
		got  []byte
		want string
	}{
		{"frame", exampleFrame([]byte("payload")), "00000021" + "02" + "08" + "0102030405060708" + "0016e360" + "0000000000000009" + "7061796c6f6164" + "019223fe"},
		{"key", appendKey(nil, key), "0704" + "62c3bc636b6574" + "6e616d65"},
		{"read reply", appendReadReply(nil, []byte{0xee}, 0x1122, 0x3344), "0000000000001122" + "0000000000003344" + "ee"},
		{"fault", appendFault(nil, fault{outcome: 4, notApplied: true, stale: 3, text: "old"}), "04" + "01" + "0000000000000003" + "6f6c64"},
		{
			"hello", appendHello(nil, hello{versions: versions{1, 1}, class: classLarge, session: 5, cluster: "c", from: "a", to: "b", identity: "i", refusal: "r"}),
			"726e646f" + "00000019" + "01" + "01" + "01" + "0000000000000005" + "0163" + "0161" + "0162" + "0169" + "0172" + "476ebdf7",
		},
	}
	for _, test := range tests {
		if got := hex.EncodeToString(test.got); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
	for op, want := range map[Op]string{0: "none", 1: "read", 2: "write", 3: "coordinate", 4: "list", 5: "layout", 6: "form", 7: "settings", 8: "ping", 9: "refuse", 77: "op 77"} {
		if got := op.String(); got != want {
			t.Errorf("op %d: got %q, want %q", op, got, want)
		}
	}
}

func TestFrameReader(t *testing.T) {
	small, large := exampleFrame([]byte("small")), exampleFrame(bytes.Repeat([]byte("x"), 3*readBuffer))
	stream := bytes.Join([][]byte{small, large, small, small}, nil)
	for name, src := range map[string]io.Reader{
		"whole": bytes.NewReader(stream), "one byte": iotest.OneByteReader(bytes.NewReader(stream)), "halves": iotest.HalfReader(bytes.NewReader(stream)),
		"error with data": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		r := newFrameReader(src, nil)
		for i, want := range []int{5, 3 * readBuffer, 5, 5} {
			f, err := r.next()
			if err != nil || len(f.payload) != want || f.owned != (i == 1) || f.op != OpWrite || f.layout != 9 {
				t.Fatalf("%s: frame %d: got %d bytes, owned %v, %v", name, i, len(f.payload), f.owned, err)
			}
		}
		if _, err := r.next(); err != io.EOF {
			t.Errorf("%s: got %v at the end, want EOF", name, err)
		}
	}
	for _, whole := range [][]byte{small, large} {
		if _, err := newFrameReader(bytes.NewReader(whole[:len(whole)-1]), nil).next(); err != io.ErrUnexpectedEOF {
			t.Errorf("got %v for a cut frame, want unexpected EOF", err)
		}
	}
}

func TestFrameReaderRefuses(t *testing.T) {
	flipped := exampleFrame([]byte("payload"))
	flipped[20] ^= 4
	for name, b := range map[string][]byte{
		"huge length": {0xff, 0xff, 0xff, 0xff, 1}, "just too long": {0x10, 0, 0, 0}, "too short": {0, 0, 0, 25}, "flipped bit": flipped,
	} {
		if _, err := newFrameReader(bytes.NewReader(b), nil).next(); !errors.Is(err, errFrame) {
			t.Errorf("%s: got %v, want a broken frame", name, err)
		}
	}
}

// A length that lies takes no more memory than about twice what arrives.
func TestFrameReaderLyingLength(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	lie := append([]byte{0x0f, 0xff, 0xff, 0xfc}, make([]byte, 5<<20)...)
	if _, err := newFrameReader(bytes.NewReader(lie), nil).next(); err != io.ErrUnexpectedEOF {
		t.Errorf("got %v, want unexpected EOF", err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
		t.Errorf("256 MiB announced and 5 MiB sent took %d MiB", got>>20)
	}
}

func TestVoidFrame(t *testing.T) {
	raw := exampleFrame([]byte("payload"))
	voidFrame(raw)
	f, err := parseFrame(raw)
	if err != nil || f.op != OpNone || f.flags != 0 {
		t.Errorf("got op %v, flags %d, %v, want a valid frame that is skipped", f.op, f.flags, err)
	}
}

func TestFaultText(t *testing.T) {
	b := appendFault(nil, fault{text: strings.Repeat("ü", maxFaultText)})
	f, err := parseFault(b)
	if err != nil || f.text != strings.Repeat("ü", maxFaultText/2) {
		t.Errorf("got %d bytes, %v, want a text cut at %d", len(f.text), err, maxFaultText)
	}
}

func FuzzDecodeFrame(f *testing.F) {
	f.Add(exampleFrame(nil))
	f.Add(exampleFrame([]byte("payload")))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := newFrameReader(bytes.NewReader(b), nil).next()
		if err != nil {
			return
		}
		again := sealFrame(append(beginFrame(nil, got.header), got.payload...), 0)
		if !bytes.Equal(again, b[:len(again)]) {
			t.Errorf("got %x, want %x", again, b[:len(again)])
		}
	})
}

func FuzzDecodeMessages(f *testing.F) {
	f.Add(append(appendKey(nil, ring.NewKey("bucket", "name")), "object"...))
	f.Add(appendReadReply(nil, []byte("object"), 12345, 678))
	f.Add(appendFault(nil, fault{outcome: 4, notApplied: true, stale: 3, text: "old layout"}))
	f.Add(appendHello(nil, hello{versions: versions{1, 2}, cluster: "c", from: idA, to: idB, identity: "i"}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, rest, err := takeKey(b); err == nil {
			if again := append(appendKey(nil, key), rest...); !bytes.Equal(again, b) {
				t.Errorf("key: got %x, want %x", again, b)
			}
			if key != ring.NewKey(key.Bucket, key.Name) {
				t.Errorf("key %+v has a wrong token", key)
			}
		}
		if object, digest, watermark, err := parseReadReply(b); err == nil {
			if again := appendReadReply(nil, object, digest, watermark); !bytes.Equal(again, b) {
				t.Errorf("read reply: got %x, want %x", again, b)
			}
		}
		if fault, err := parseFault(b); err == nil {
			if again := appendFault(nil, fault); !bytes.Equal(again, b) {
				t.Errorf("fault: got %x, want %x", again, b)
			}
		}
		if h, err := readHello(bytes.NewReader(b)); err == nil {
			again, err := parseHello(appendHello(nil, h))
			if err != nil || again != h {
				t.Errorf("hello: got %+v, %v, want %+v", again, err, h)
			}
		}
	})
}

func TestAgree(t *testing.T) {
	mine := hello{versions: versions{2, 4}, cluster: "prod", from: idA, to: idB, identity: "one"}
	theirs := hello{versions: versions{1, 3}, cluster: "prod", from: idB, to: idA, identity: "one"}
	tests := []struct {
		name    string
		change  func(h *hello)
		version uint64
		want    string // part of the refusal
	}{
		{"highest common version", func(*hello) {}, 3, ""},
		{"newer", func(h *hello) { h.versions = versions{4, 9} }, 4, ""},
		{"identity not known yet", func(h *hello) { h.identity = "" }, 3, ""},
		{"too old", func(h *hello) { h.versions = versions{1, 1} }, 0, "speaks protocol versions 1 to 1, not 2 to 4"},
		{"too new", func(h *hello) { h.versions = versions{5, 6} }, 0, "speaks protocol versions 5 to 6"},
		{"other name", func(h *hello) { h.cluster = "dev" }, 0, `cluster "dev", not "prod"`},
		{"other identity", func(h *hello) { h.identity = "two" }, 0, "another cluster of the same name"},
		{"other node", func(h *hello) { h.from = "cc" }, 0, "node " + string(idB) + " was expected"},
		{"looks for another node", func(h *hello) { h.to = "cc" }, 0, "looks for node cc"},
		{"no node", func(h *hello) { h.from = "" }, 0, "no node id"},
	}
	for _, test := range tests {
		h := theirs
		test.change(&h)
		version, err := agree(mine, h, idB)
		if version != test.version {
			t.Errorf("%s: got version %d, want %d", test.name, version, test.version)
		}
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

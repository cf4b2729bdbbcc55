package vclock

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// sample is an object with everything in it: several actors, a cloud, an expiry, a tombstone, an empty value.
func sample() Object {
	o, _ := Object{}.Put(1, clockOf(dot(1, 3), dot(9, 1), dot(9, 700)), value(10, "text"))
	o, _ = o.Put(2, Clock{}, Sibling{Time: 11, Expiry: 99, ContentType: "image/png", Value: []byte{0, 255}})
	o, _ = o.Put(2, Clock{}, tombstone(12))
	o, _ = o.Put(1<<63, Clock{}, Sibling{Time: 13, ContentType: TypeJSON, Value: []byte(`{"n":1}`)})
	o, _ = o.Put(3, Clock{}, Sibling{Time: 13, ContentType: TypeBytes})
	return o
}

// The bytes on disk and on the wire: a change here is a new format version.
func TestEncodingIsPinned(t *testing.T) {
	o, _ := Object{}.Put(0x0102030405060708, clockOf(dot(5, 1), dot(5, 300)), value(0x1122334455667788, "hi"))
	got := hex.EncodeToString(AppendObject(nil, o))
	want := "01" + // version
		"02" + "0000000000000005" + "01" + "0102030405060708" + "01" + // vector
		"01" + "0000000000000005" + "ac02" + // cloud
		"01" + "00" + "0102030405060708" + "01" + "1122334455667788" + // one sibling: flags, dot, time
		"19" + hex.EncodeToString([]byte(TypeText)) + "02" + "6869"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDecodeObjectRoundTrip(t *testing.T) {
	for _, o := range []Object{{}, {Clock: clockOf(dot(1, 2))}, sample()} {
		b := AppendObject([]byte("prefix"), o)[6:]
		got, err := DecodeObject(b)
		if err != nil {
			t.Fatal(err)
		}
		sameBytes(t, "round trip", got, o)
		if got.State() != o.State() || got.Clock.Len() != o.Clock.Len() {
			t.Errorf("got %+v, want %+v", got, o)
		}
	}
}

func TestDecodeObjectRejects(t *testing.T) {
	sib := func(flags byte, d Dot, time byte, rest ...byte) []byte {
		b := append(appendDot([]byte{flags}, d), 0, 0, 0, 0, 0, 0, 0, time)
		return append(b, rest...)
	}
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	vector := func(dots ...Dot) []byte {
		b := []byte{byte(len(dots))}
		for _, d := range dots {
			b = appendDot(b, d)
		}
		return b
	}
	version, none := []byte{1}, []byte{0}
	one, x := vector(dot(1, 1)), sib(0, dot(1, 1), 9, 0, 1, 'x')
	const top = ^uint64(0)
	tests := []struct {
		name string
		b    []byte
	}{
		{"nothing", nil},
		{"another version", join([]byte{2}, none, none, none)},
		{"trailing byte", join(version, none, none, none, none)},
		{"counter of zero", join(version, vector(dot(1, 0)), none, none)},
		{"vector out of order", join(version, vector(dot(2, 1), dot(1, 1)), none, none)},
		{"actor twice", join(version, vector(dot(1, 1), dot(1, 2)), none, none)},
		{"cloud out of order", join(version, none, vector(dot(1, 5), dot(1, 3)), none)},
		{"cloud dot twice", join(version, none, vector(dot(1, 5), dot(1, 5)), none)},
		{"cloud dot below the vector", join(version, vector(dot(1, 5)), vector(dot(1, 3)), none)},
		{"cloud dot next to the vector", join(version, one, vector(dot(1, 2)), none)},
		{"cloud dot that starts a vector", join(version, none, vector(dot(1, 1)), none)},
		{"cloud dot below the highest counter", join(version, vector(dot(1, top)), vector(dot(1, 7)), none)},
		{"padded count", join(version, []byte{0x80, 0}, none, none)},
		{"padded counter", join(version, []byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 0x81, 0}, none, none)},
		{"count beyond the bytes", join(version, []byte{0xff, 0xff, 0xff, 0xff, 0x0f})},
		{"number too long", join(version, bytes.Repeat([]byte{0xff}, 11))},
		{"sibling beyond its clock", join(version, none, none, []byte{1}, x)},
		{"unknown flag", join(version, one, none, []byte{1}, sib(4, dot(1, 1), 9, 0, 1, 'x'))},
		{"expiry of zero", join(version, one, none, []byte{1}, sib(2, dot(1, 1), 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 'x'))},
		{"tombstone with a value", join(version, one, none, []byte{1}, sib(1, dot(1, 1), 9, 0, 1, 'x'))},
		{"tombstone with a type", join(version, one, none, []byte{1}, sib(1, dot(1, 1), 9, 1, 't', 0))},
		{"sibling twice", join(version, one, none, []byte{2}, x, x)},
		{"dot twice at two times", join(version, one, none, []byte{2}, x, sib(0, dot(1, 1), 8, 0, 1, 'x'))},
		{"oldest first", join(version, vector(dot(1, 2)), none, []byte{2}, x, sib(0, dot(1, 2), 10, 0, 1, 'y'))},
		{"value beyond the bytes", join(version, one, none, []byte{1}, sib(0, dot(1, 1), 9, 0, 2, 'x'))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if o, err := DecodeObject(tt.b); !errors.Is(err, ErrCorrupt) {
				t.Errorf("decoded %x as %+v, %v, want ErrCorrupt", tt.b, o, err)
			}
		})
	}
}

// Cut anywhere, an encoding is refused; with any bit flipped it is refused or is another object's canonical encoding.
func TestDecodeObjectOfDamagedBytes(t *testing.T) {
	b := AppendObject(nil, sample())
	for n := range b {
		if o, err := DecodeObject(b[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d of %d bytes: %+v, %v", n, len(b), o, err)
		}
	}
	for bit := range len(b) * 8 {
		damaged := bytes.Clone(b)
		damaged[bit/8] ^= 1 << (bit % 8)
		checkObject(t, damaged)
	}
}

// checkObject tells that b is refused, or is canonical and within bounds.
func checkObject(t *testing.T, b []byte) {
	t.Helper()
	o, err := DecodeObject(b)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) || !o.Empty() {
			t.Errorf("%x: got %+v, %v, want nothing and ErrCorrupt", b, o, err)
		}
		return
	}
	again := AppendObject(nil, o)
	if !bytes.Equal(again, b) {
		t.Errorf("not canonical:\ngot  %x\nwant %x", again, b)
	}
	if n := EncodedSize(o); n < len(b) {
		t.Errorf("%x: size bound %d, encoded %d", b, n, len(b))
	}
	if n := 9*o.Clock.Len() + minSibling*len(o.Siblings); n > len(b) {
		t.Errorf("%d entries and %d siblings out of %d bytes", o.Clock.Len(), len(o.Siblings), len(b))
	}
	sameBytes(t, "merge with itself", Merge(o, o), o)
	if got := o.State(); got == Absent && len(again) > 4 {
		t.Errorf("state of %+v: %v", o, got)
	}
}

func FuzzDecodeObject(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendObject(nil, Object{}))
	f.Add(AppendObject(nil, sample()))
	h := newHistory(genuine(), rand.New(rand.NewPCG(1, 1)).IntN)
	if err := h.run(40); err != nil {
		f.Fatal(err)
	}
	for _, o := range h.seen[len(h.seen)/2:] {
		f.Add(AppendObject(nil, o))
	}
	f.Fuzz(checkObject)
}

func FuzzDecodeClock(f *testing.F) {
	f.Add([]byte{0, 0})
	f.Add(AppendClock(nil, sample().Clock))
	f.Add(append(AppendClock(nil, clockOf(dot(3, 1), dot(3, 4), dot(4, 4))), "rest"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, rest, err := DecodeClock(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || !c.Empty() {
				t.Fatalf("%x: got %+v, %v", b, c, err)
			}
			return
		}
		if got := append(AppendClock(nil, c), rest...); !bytes.Equal(got, b) {
			t.Fatalf("not canonical:\ngot  %x\nwant %x", got, b)
		}
		// The parts of a canonical clock, added one by one, make the same clock.
		again := Clock{vector: c.vector}
		for _, d := range c.cloud {
			again = again.With(d)
		}
		if !again.Equal(c) || !c.Covers(again) || !c.Join(again).Equal(c) {
			t.Fatalf("built again as %+v, want %+v", again, c)
		}
	})
}

func TestDecodeObjectAllocatesOnce(t *testing.T) {
	o, _ := Object{}.Put(1, clockOf(dot(2, 1), dot(3, 1)), value(1, "x"))
	b := AppendObject(nil, o)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := DecodeObject(b); err != nil {
			t.Fatal(err)
		}
	}); n != 1 {
		t.Errorf("decoding a usual object allocates %v times, want once", n)
	}
}

package ring

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawLayout draws a layout with a past.
func drawLayout(t *rapid.T) *Layout {
	members := testMembers(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(2, 20).Draw(t, "members"), rapid.IntRange(1, 5).Draw(t, "zones"), MaxWeight)
	l, err := First(rapid.StringN(1, 16, MaxName).Draw(t, "cluster"), 1<<rapid.IntRange(0, 7).Draw(t, "partition bits"), members)
	if err != nil {
		t.Fatal(err)
	}
	for range rapid.IntRange(0, 2).Draw(t, "changes") {
		next, err := l.Next(members[:rapid.IntRange(1, len(members)).Draw(t, "stay")])
		if err != nil {
			t.Fatal(err)
		}
		l = next
	}
	return l
}

func TestDecodeIsTheInverseOfEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawLayout(t)
		b := want.Encode()
		got, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		clear(b) // the layout must keep no part of it
		if !got.Equal(want) || got.Hash() != want.Hash() || got.Version() != want.Version() || got.Cluster() != want.Cluster() || !slices.Equal(got.Members(), want.Members()) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		for p := range want.Partitions() {
			if !slices.Equal(got.Preference(p), want.Preference(p)) {
				t.Fatalf("partition %d: got %v, want %v", p, got.Preference(p), want.Preference(p))
			}
		}
		next, err := want.Next(want.Members()[:1])
		if err != nil {
			t.Fatal(err)
		}
		if again, err := got.Next(got.Members()[:1]); err != nil || !again.Equal(next) {
			t.Fatalf("the decoded layout has another next one: %v", err)
		}
	})
}

func TestEncodeWithManyMembers(t *testing.T) {
	for _, count := range []int{255, 256, 257, 1000} {
		l := mustFirst(t, 64, testMembers(1, count, 3, 2))
		checkSpread(t, l)
		got, err := Decode(l.Encode())
		if err != nil || !got.Equal(l) {
			t.Errorf("%d members: %v", count, err)
		}
	}
}

// The hash covers every field.
func TestHashChangesWithAnyField(t *testing.T) {
	members := testMembers(1, 5, 2, 3)
	base := mustFirst(t, 64, members)
	change := func(f func(m *Member)) *Layout {
		other := slices.Clone(members)
		f(&other[2])
		return mustFirst(t, 64, other)
	}
	other, err := First("d", 64, members)
	if err != nil {
		t.Fatal(err)
	}
	swapped := *base
	swapped.table = table{base.table.depth, slices.Clone(base.table.owner)}
	swapped.table.owner[0], swapped.table.owner[1] = swapped.table.owner[1], swapped.table.owner[0]
	swapped.finish()
	seen := map[uint64]string{base.Hash(): "base"}
	for what, l := range map[string]*Layout{
		"version": mustNext(t, base, members), "cluster": other, "partitions": mustFirst(t, 128, members),
		"members": mustFirst(t, 64, members[:4]), "table": &swapped,
		"id":     change(func(m *Member) { m.ID = testMembers(9, 1, 1, 1)[0].ID }),
		"name":   change(func(m *Member) { m.Name = "other" }),
		"zone":   change(func(m *Member) { m.Zone = "other" }),
		"weight": change(func(m *Member) { m.Weight++ }),
	} {
		if twin, ok := seen[l.Hash()]; ok {
			t.Errorf("another %s gives the hash of %s", what, twin)
		}
		if l.Equal(base) {
			t.Errorf("another %s makes an equal layout", what)
		}
		seen[l.Hash()] = what
	}
}

// seal puts the right hash behind a changed body.
func seal(b []byte) []byte {
	body := b[:len(b)-hashBytes]
	return binary.BigEndian.AppendUint64(slices.Clone(body), Digest(body))
}

func TestDecodeRefuses(t *testing.T) {
	l := mustFirst(t, 16, testMembers(1, 4, 2, 1))
	whole := l.Encode()
	table := len(whole) - hashBytes - 16*4
	patch := func(at int, to ...byte) []byte {
		b := slices.Clone(whole)
		copy(b[at:], to)
		return seal(b)
	}
	first := headBytes + len("c")
	second := first + memberBytes + len("n0") + len("z0")
	unsorted := slices.Concat(whole[:first], whole[second:second+(second-first)], whole[first:second], whole[second+(second-first):])
	zone, _ := zonesOf(l.members)
	row := l.table.row(0)
	oneZone := slices.Clone(row)
	slices.SortStableFunc(oneZone, func(a, b int16) int { return zone[a] - zone[b] })
	tests := map[string]struct {
		b    []byte
		want string
	}{
		"nothing":           {nil, "0 bytes"},
		"too long":          {make([]byte, maxEncoded+1), "bytes"},
		"cut off":           {whole[:len(whole)-1], "hash"},
		"longer":            {append(slices.Clone(whole), 0), "hash"},
		"bit flip":          {append(slices.Clone(whole[:30]), append([]byte{whole[30] ^ 1}, whole[31:]...)...), "hash"},
		"other format":      {patch(0, 2), "format 2"},
		"version 0":         {patch(1, 0, 0, 0, 0, 0, 0, 0, 0), "version 0"},
		"partitions":        {patch(9, 0, 0, 0, 17), "power of two"},
		"more partitions":   {patch(9, 0, 0, 0, 32), "owners' table"},
		"no members":        {patch(13, 0, 0), "0 members"},
		"many members":      {patch(13, 0xff, 0xff), "too short"},
		"long text":         {patch(15, 255), ""},
		"weight":            {patch(first+16, 0, 0), "weight 0"},
		"member not there":  {patch(table, 4), "member 4 of 4"},
		"same owner twice":  {patch(table, byte(row[2]), byte(row[1]), byte(row[2])), ""},
		"zones not spread":  {patch(table, byte(oneZone[0]), byte(oneZone[1]), byte(oneZone[2]), byte(oneZone[3])), "fewer zones"},
		"members unordered": {seal(unsorted), ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Decode(test.b)
			if err == nil {
				t.Fatalf("decoded as %+v", got)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
			if errors.Is(err, ErrEncoding) == (name == "partitions" || name == "no members" || name == "weight") {
				t.Errorf("%v: is ErrEncoding: %v", err, errors.Is(err, ErrEncoding))
			}
		})
	}
}

// What Decode allocates is bounded by the limits of the package, and small where the bytes are refused early.
func TestDecodeAllocatesLittleForBadBytes(t *testing.T) {
	b := make([]byte, headBytes+memberBytes+hashBytes)
	b[0] = formatOne
	binary.BigEndian.PutUint64(b[1:], 1)
	binary.BigEndian.PutUint32(b[9:], MaxPartitions)
	binary.BigEndian.PutUint16(b[13:], MaxMembers)
	b = seal(b)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Decode(b); err == nil {
		t.Fatal("decoded")
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 64<<10 {
		t.Errorf("%d bytes allocated, want little", got)
	}
}

// Whatever the bytes, with their hash as it is or made right: no panic, and what is decoded encodes to the same bytes and
// keeps the rules.
func FuzzDecodeLayout(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, count := range []int{1, 2, 3, 9} {
		for range 3 {
			l, err := First("c", 1<<r.IntN(5), testMembers(r.Uint64(), count, 1+r.IntN(3), 5))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(l.Encode())
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		inputs := [][]byte{b}
		if len(b) >= hashBytes {
			inputs = append(inputs, seal(b))
		}
		for _, in := range inputs {
			l, err := Decode(in)
			if err != nil {
				continue
			}
			if !slices.Equal(l.Encode(), in) {
				t.Fatal("encodes to other bytes")
			}
			if l.Partitions() <= 256 && len(l.Members()) <= 16 {
				checkSpread(t, l)
				if _, err := l.Next(l.Members()); err != nil && l.Version() < 1<<63 {
					t.Fatal(err)
				}
			}
		}
	})
}

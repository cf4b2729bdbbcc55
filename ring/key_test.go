package ring

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"
)

// The token is on disk and agreed between nodes: xxhash64 of bucket, a zero byte, name.
func TestToken(t *testing.T) {
	tests := []struct {
		bucket, name string
		want         uint64
	}{
		{"carts", "alice", 0xeefd962c0fdd79b4},
		{"", "", 0xe934a84adb052768},
		{"b", strings.Repeat("k", 1024), 0x371220c54c0947c8},
	}
	for _, test := range tests {
		k := NewKey(test.bucket, test.name)
		if got := k.Token; got != test.want {
			t.Errorf("token of %q %.8q: %#x, want %#x", test.bucket, test.name, got, test.want)
		}
		if k.Bucket != test.bucket || k.Name != test.name {
			t.Errorf("got %q %q", k.Bucket, k.Name)
		}
	}
}

func TestTokenOfAnyKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bucket, name := rapid.StringN(0, 128, 128).Draw(t, "bucket"), string(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "name"))
		if got, want := NewKey(bucket, name).Token, xxhash.Sum64String(bucket+"\x00"+name); got != want {
			t.Fatalf("token %#x, want %#x", got, want)
		}
	})
}

// A partition is a contiguous range of tokens: their top bits.
func TestPartitionIsTopBits(t *testing.T) {
	for bits := 0; bits <= 16; bits++ {
		count := 1 << bits
		l := mustFirst(t, count, testMembers(1, 2, 1, 1))
		width := uint64(math.MaxUint64)/uint64(count) + 1 // 0 = all tokens
		for _, p := range []int{0, 1, count / 2, count - 1} {
			if p >= count {
				continue
			}
			from := uint64(p) * width
			to := from + width - 1
			for _, token := range []uint64{from, from + width/2, to} {
				if got := l.Partition(token); got != p {
					t.Errorf("%d partitions: token %#x is in %d, want %d", count, token, got, p)
				}
			}
		}
	}
}

// Tokens of keys that look alike spread evenly: with 256 partitions the chi-squared of 100,000 keys stays where a fair draw
// would be nearly always (mean 255, standard deviation 22.6).
func TestTokensSpread(t *testing.T) {
	l := mustFirst(t, 256, testMembers(1, 3, 1, 1))
	const keys = 100_000
	names := map[string]func(i int) string{
		"numbers": func(i int) string { return "user:" + strconv.Itoa(i) },
		"bytes":   func(i int) string { return string([]byte{byte(i), byte(i >> 8), byte(i >> 16)}) },
		"lengths": func(i int) string { return strings.Repeat("x", i%1000) + strconv.Itoa(i/1000) },
	}
	for kind, name := range names {
		var held [256]float64
		for i := range keys {
			held[l.Partition(NewKey("bucket", name(i)).Token)]++
		}
		chi := 0.0
		for _, n := range held {
			chi += (n - keys/256.0) * (n - keys/256.0) / (keys / 256.0)
		}
		if chi < 255-5*22.6 || chi > 255+5*22.6 {
			t.Errorf("%s: chi-squared %.0f, want about 255", kind, chi)
		}
	}
}

func TestNewKeyDoesNotAllocate(t *testing.T) {
	name := strings.Repeat("k", 1024)
	sum := uint64(0)
	if got := testing.AllocsPerRun(100, func() { sum += NewKey("bucket", name).Token }); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

func BenchmarkNewKey(b *testing.B) {
	for _, size := range []int{16, 200, 1024} {
		name := strings.Repeat("k", size)
		b.Run(strconv.Itoa(size)+"bytes", func(b *testing.B) {
			b.ReportAllocs()
			sum := uint64(0)
			for b.Loop() {
				sum += NewKey("bucket", name).Token
			}
			if sum == 0 {
				b.Fatal("tokens are all zero")
			}
		})
	}
}

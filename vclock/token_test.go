package vclock

import (
	"errors"
	"strings"
	"testing"
)

func sampleContext() Context { return sample().Context() }

func TestTokenRoundTrip(t *testing.T) {
	s := NewSealer("prod")
	for _, c := range []Context{{}, {Time: 1}, {Clock: clockOf(dot(1, 1))}, sampleContext()} {
		for _, key := range [][2]string{{"b", "k"}, {"b", ""}, {"b", strings.Repeat("\xff", 1024)}, {strings.Repeat("b", 128), "k\x00k"}} {
			token := s.Seal(key[0], key[1], c)
			if got := string(s.AppendSeal([]byte("x"), key[0], key[1], c)); got != "x"+token {
				t.Errorf("AppendSeal: got %s, want x%s", got, token)
			}
			got, err := s.Open(key[0], key[1], token)
			if err != nil || !got.Clock.Equal(c.Clock) || got.Time != c.Time {
				t.Errorf("opened as %+v, %v, want %+v", got, err, c)
			}
		}
	}
}

// Another node of the same cluster opens what this one sealed; the text is the same for the same context.
func TestTokenIsTheSameOnEveryNode(t *testing.T) {
	a, b := NewSealer("prod"), NewSealer("prod")
	token := a.Seal("b", "k", sampleContext())
	if got := b.Seal("b", "k", sampleContext()); got != token {
		t.Errorf("got %s, want %s", got, token)
	}
	if _, err := b.Open("b", "k", token); err != nil {
		t.Error(err)
	}
}

func TestTokenRejects(t *testing.T) {
	s := NewSealer("prod")
	token := s.Seal("bucket", "key", sampleContext())
	refuse := func(what, bucket, key, token string) {
		t.Helper()
		if c, err := s.Open(bucket, key, token); !errors.Is(err, ErrToken) || !c.Clock.Empty() || c.Time != 0 {
			t.Errorf("%s: opened as %+v, %v, want ErrToken", what, c, err)
		}
	}
	for n := range token {
		refuse("cut", "bucket", "key", token[:n])
		refuse("cut in front", "bucket", "key", token[n+1:])
	}
	for bit := range len(token) * 8 {
		b := []byte(token)
		b[bit/8] ^= 1 << (bit % 8)
		refuse("bit flipped", "bucket", "key", string(b))
	}
	for i := range len(token) + 1 {
		for _, c := range []string{"A", "_", "=", "\n", "\r", " ", "\x00", "\xff"} {
			refuse("character added", "bucket", "key", token[:i]+c+token[i:])
		}
	}
	for _, other := range [][2]string{{"bucket", "kez"}, {"buckeu", "key"}, {"bucketk", "ey"}, {"bucke", "tkey"}, {"", "bucketkey"}, {"bucketkey", ""}, {"bucket", "key\x00"}, {"key", "bucket"}} {
		refuse("of another key", other[0], other[1], token)
	}
	for _, cluster := range []string{"", "prod2", "pro", "Prod"} {
		refuse("of another cluster", "bucket", "key", NewSealer(cluster).Seal("bucket", "key", sampleContext()))
	}
	refuse("none", "bucket", "key", "none")
	refuse("too long", "bucket", "key", strings.Repeat("A", MaxToken+1))
	refuse("far too long", "bucket", "key", strings.Repeat("A", 1<<20))
	refuse("padding", "bucket", "key", token+"==")
	refuse("two tokens", "bucket", "key", token+token)
}

// A context that nobody made with Object.Context or Context.With may be too large. Its token is refused, not misread.
func TestTokenTooLong(t *testing.T) {
	s := NewSealer("prod")
	var c Context
	for i := range 400 {
		c.Clock = c.Clock.With(dot(Actor(i), 1))
	}
	token := s.Seal("b", "k", c)
	if len(token) <= MaxToken {
		t.Fatalf("token of %d bytes", len(token))
	}
	if _, err := s.Open("b", "k", token); !errors.Is(err, ErrToken) {
		t.Errorf("got %v, want ErrToken", err)
	}
}

// How many store incarnations may have written a key before its contexts are cut down: docs and operators rely on it.
func TestTokenHoldsManyActors(t *testing.T) {
	for _, tt := range []struct {
		counter uint64
		actors  int
	}{{1, 339}, {1000, 305}, {1 << 20, 277}, {1 << 60, 179}, {1 << 63, 169}} {
		var c Clock
		for i := range tt.actors {
			c = c.With(dot(Actor(i)<<32, tt.counter))
		}
		more := c.With(dot(Actor(tt.actors)<<32, tt.counter))
		if !c.fits(tokenClock) || more.fits(tokenClock) {
			t.Errorf("counters of %d: %d actors fit: %v, one more: %v", tt.counter, tt.actors, c.fits(tokenClock), more.fits(tokenClock))
		}
	}
}

// A counter near the top could wrap around and mint a dot twice. A token may not bring one in.
func TestTokenCounterIsBounded(t *testing.T) {
	s := NewSealer("prod")
	for n, want := range map[uint64]error{maxCounter: nil, maxCounter + 1: ErrToken, 1<<64 - 1: ErrToken} {
		if _, err := s.Open("b", "k", s.Seal("b", "k", Context{Clock: clockOf(dot(1, n))})); !errors.Is(err, want) {
			t.Errorf("counter %d: got %v, want %v", n, err, want)
		}
	}
}

func FuzzOpenToken(f *testing.F) {
	s := NewSealer("prod")
	f.Add("b", "k", s.Seal("b", "k", sampleContext()))
	f.Add("b", "k", s.Seal("b", "k", Context{}))
	f.Add("b", "k", "")
	f.Add("b", "k", "none")
	f.Fuzz(func(t *testing.T, bucket, key, token string) {
		c, err := s.Open(bucket, key, token)
		if err != nil {
			if !errors.Is(err, ErrToken) {
				t.Fatalf("got %v, want ErrToken", err)
			}
		} else if again := s.Seal(bucket, key, c); again != token {
			t.Fatalf("one context, two tokens: %s, %s", token, again)
		}
		// Read as a context, the same bytes give a token that opens again.
		if clock, _, err := DecodeClock([]byte(token)); err == nil && clock.fits(tokenClock) && clock.highest() <= maxCounter {
			got, err := s.Open(bucket, key, s.Seal(bucket, key, Context{Clock: clock, Time: uint64(len(key))}))
			if err != nil || !got.Clock.Equal(clock) || got.Time != uint64(len(key)) {
				t.Fatalf("opened as %+v, %v, want %+v", got, err, clock)
			}
		}
	})
}

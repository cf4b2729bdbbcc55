package quorum

import (
	"fmt"
	"time"
)

// How long a value may be meant to live.
const (
	MinTTL = time.Second
	MaxTTL = 10 * 365 * 24 * time.Hour
)

// checkTTL says what is wrong with a time to live.
func checkTTL(ttl time.Duration) error {
	if ttl < MinTTL || ttl > MaxTTL {
		return fmt.Errorf("ttl=%v is not between %v and %v", ttl, MinTTL, MaxTTL)
	}
	return nil
}

// check says what is wrong with a value, before anything is done with it.
func (v *Value) check() *Error {
	if v.TTL <= 0 {
		return nil
	}
	if err := checkTTL(v.TTL); err != nil {
		return &Error{Code: CodeInvalid, Detail: err.Error(), Outcome: NotApplied}
	}
	if v.Delete {
		return &Error{Code: CodeInvalid, Detail: "a delete does not expire: leave the ttl out", Outcome: NotApplied}
	}
	return nil
}

// ttl is how long the value is to live in a bucket, 0 = for ever.
func (v *Value) ttl(b Bucket) time.Duration {
	switch {
	case v.Delete || v.TTL < 0:
		return 0
	case v.TTL > 0:
		return v.TTL
	}
	return b.TTL
}

package quorum

import (
	"fmt"
	"strconv"
)

// Level is how many replicas: a number, or a word that depends on n. The zero Level is Unset.
type Level int8

// The levels that are not plain numbers.
const (
	Unset  Level = 0
	Quorum Level = -1 // n/2 + 1
	All    Level = -2 // n
	None   Level = -3 // 0: durability only
)

// MaxN is the largest replica count of a bucket.
const MaxN = 7

// ParseLevel reads "one", "quorum", "all" or a number from 1 to MaxN; and "0" where zero is allowed.
func ParseLevel(s string, zero bool) (Level, error) {
	switch s {
	case "one":
		return 1, nil
	case "quorum":
		return Quorum, nil
	case "all":
		return All, nil
	case "0":
		if zero {
			return None, nil
		}
	}
	if n, err := strconv.Atoi(s); err == nil && n >= 1 && n <= MaxN && s == strconv.Itoa(n) {
		return Level(n), nil
	}
	low := "1"
	if zero {
		low = "0"
	}
	return Unset, fmt.Errorf("%q is not a replica count: use %s to %d, one, quorum or all", s, low, MaxN)
}

// Count is the number of replicas that the level means with n replicas. A number may be greater than n: the caller says so.
func (l Level) Count(n int) int {
	switch l {
	case Quorum:
		return n/2 + 1
	case All:
		return n
	case None:
		return 0
	}
	return int(l)
}

// String is the word or number that ParseLevel reads.
func (l Level) String() string {
	switch l {
	case Unset:
		return ""
	case Quorum:
		return "quorum"
	case All:
		return "all"
	case None:
		return "0"
	}
	return strconv.Itoa(int(l))
}

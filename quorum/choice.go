package quorum

// Choice is what one request says about a setting that its bucket has too. The zero Choice leaves it to the bucket.
type Choice uint8

// The choices.
const (
	AsBucket Choice = iota
	Yes
	No
)

// Or is the choice made, and otherwise what the bucket says.
func (c Choice) Or(bucket bool) bool {
	if c == AsBucket {
		return bucket
	}
	return c == Yes
}

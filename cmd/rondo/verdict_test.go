package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rondodb/rondo/internal/client"
)

// cluster makes members n1… with the given health ("a" alive, "d" dead, "s" suspect), and a ring where each partition belongs to three
// neighbours.
func clusterOf(health string) (*client.Cluster, *client.Ring) {
	c := &client.Cluster{Cluster: "c", Ring: 1}
	for i, h := range health {
		c.Members = append(c.Members, client.Member{
			Name: fmt.Sprintf("n%d", i+1), State: "member", Health: map[rune]string{'a': "alive", 'd': "dead", 's': "suspect"}[h],
		})
	}
	r := &client.Ring{Ring: 1}
	for p := range len(health) * 4 {
		var owners []string
		for i := range min(3, len(health)) {
			owners = append(owners, fmt.Sprintf("n%d", (p+i)%len(health)+1))
		}
		r.Partitions = append(r.Partitions, client.Partition{ID: p, Owners: owners})
	}
	return c, r
}

func TestVerdicts(t *testing.T) {
	tests := []struct {
		health, state, sentence string
	}{
		{"aaa", healthy, "Healthy: 3 of 3 nodes up, every key has 3 replicas; any one node can fail."},
		{"aaaaa", healthy, "Healthy: 5 of 5 nodes up, every key has 3 replicas; any one node can fail."},
		{"a", healthy, "Healthy: 1 of 1 nodes up, every key has 1 replica; losing it stops everything, for it is the only one."},
		{"aa", healthy, "Healthy: 2 of 2 nodes up, every key has 2 replicas; none may fail: losing one stops quorum reads and writes for all keys."},
		{"ada", degraded, "Degraded: n2 is down; quorum reads and writes go on; one more failure stops quorum reads and writes for all keys."},
		{"adaaaa", degraded, "Degraded: n2 is down; quorum reads and writes go on; one more failure stops quorum reads and writes for up to about 1/3 of the keys."},
		{"saa", degraded, "Degraded: n1 is not answering; quorum reads and writes go on; one more failure stops quorum reads and writes for all keys."},
		{"aaadaada", degraded, "Degraded: n4 and n7 are down; quorum reads and writes go on; one more failure stops quorum reads and writes for up to about 38 % of the keys."},
		{"dda", unavailable, "Unavailable: quorum reads and writes fail for all keys: n1 and n2 are down; bring one of them back."},
		{"ad", unavailable, "Unavailable: quorum reads and writes fail for all keys: n2 is down; bring it back."},
		{"ddaaaa", unavailable, "Unavailable: quorum reads and writes fail for about 1/3 of the keys: n1 and n2 are down; bring one of them back."},
		{"dsddaaa", unavailable, "Unavailable: quorum reads and writes fail for about 57 % of the keys: n1, n2, n3 and n4 are down or not answering; bring one of them back."},
	}
	for _, test := range tests {
		v := judge(clusterOf(test.health))
		if v.State != test.state || v.Sentence != test.sentence {
			t.Errorf("%s:\ngot  %s: %s\nwant %s: %s", test.health, v.State, v.Sentence, test.state, test.sentence)
		}
	}
}

// TestVerdictAgainstBruteForce tries every next failure by hand.
func TestVerdictAgainstBruteForce(t *testing.T) {
	for n := 1; n <= 7; n++ {
		for mask := range 1 << n {
			health := strings.Builder{}
			for i := range n {
				health.WriteByte("ad"[mask>>i&1])
			}
			cluster, ring := clusterOf(health.String())
			got := judge(cluster, ring)
			lost := func(down int) (lost int) {
				for p := range ring.Partitions {
					up := 0
					for i := range min(3, n) {
						up += 1 - down>>((p+i)%n)&1
					}
					if up < min(3, n)/2+1 {
						lost++
					}
				}
				return lost
			}
			worst := lost(mask)
			for i := range n {
				worst = max(worst, lost(mask|1<<i))
			}
			total := float64(len(ring.Partitions))
			if got.Lost != float64(lost(mask))/total || got.NextLost != float64(worst)/total {
				t.Fatalf("%s: got %v lost now and %v next, want %v and %v", health.String(), got.Lost, got.NextLost, float64(lost(mask))/total, float64(worst)/total)
			}
		}
	}
}

func TestVerdictWithoutRing(t *testing.T) {
	if got := judge(&client.Cluster{}, nil); got.State != unformed {
		t.Errorf("got %+v, want unformed", got)
	}
	c, r := clusterOf("aaa")
	c.Members = append(c.Members, client.Member{Name: "spare", State: "none", Health: "dead"})
	if got := judge(c, r); got.State != healthy || got.Count != 3 {
		t.Errorf("got %+v, want a node outside the ring not to count", got)
	}
}

func TestAgreement(t *testing.T) {
	replica := func(node, digest string) client.Replica {
		return client.Replica{Node: node, Found: digest != "", Digest: digest}
	}
	down := func(node string) client.Replica { return client.Replica{Node: node, Error: "timeout"} }
	tests := []struct {
		replicas []client.Replica
		want     string
	}{
		{[]client.Replica{replica("a", "1"), replica("b", "1"), replica("c", "1")}, "All 3 replicas agree."},
		{[]client.Replica{replica("a", "1"), replica("b", "2"), replica("c", "1")}, `The replicas differ: b differs from a and c. A read with "rondo get --consistency all" mends them.`},
		{[]client.Replica{replica("a", "1"), replica("b", ""), down("c")}, `The replicas differ: b differs from a. A read with "rondo get --consistency all" mends them. No answer from c.`},
		{[]client.Replica{replica("a", "1"), replica("b", "1"), down("c")}, "The 2 replicas that answered agree. No answer from c."},
		{[]client.Replica{replica("a", ""), replica("b", "")}, "No replica has ever seen this key (2 of 2 answered)."},
		{[]client.Replica{replica("a", "1")}, "The only replica answered."},
		{[]client.Replica{down("a"), down("b")}, "None of the 2 replicas answered."},
	}
	for _, test := range tests {
		if got := agreement(&client.Explanation{Replicas: test.replicas}); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func TestShow(t *testing.T) {
	tests := []struct{ got, want string }{
		{bytesText(0), "0 B"},
		{bytesText(1023), "1023 B"},
		{bytesText(1024), "1.0 KiB"},
		{bytesText(1 << 20), "1.0 MiB"},
		{bytesText(1<<20 - 1), "1.0 MiB"},
		{bytesText(3 << 40), "3.0 TiB"},
		{countText(0), "0"},
		{countText(999), "999"},
		{countText(1000), "1,000"},
		{countText(1234567), "1,234,567"},
		{countText(-1000), "-1,000"},
		{durationText(812e3), "812µs"},
		{durationText(1240e3), "1.24ms"},
		{durationText(3.2e9), "3.20s"},
		{durationText(0), "0.00µs"},
		{durationText(200e9), "3m20s"},
		{clockText(45e9), "0:45"},
		{clockText(723e9), "12:03"},
		{clockText(3723e9), "1:02:03"},
		{shown("a/b"), "a/b"},
		{shown(""), `""`},
		{shown("a\n"), `"a\n"`},
		{shown("\xff"), `"\xff"`},
		{shown(" a"), `" a"`},
		{preview(client.Value{Data: []byte("a\n\tb\x01")}), "a  b·"},
		{preview(client.Value{Data: []byte{0xff}}), "<1 bytes>"},
		{preview(client.Value{Data: []byte(strings.Repeat("é", 61))}), strings.Repeat("é", 60) + "…"},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

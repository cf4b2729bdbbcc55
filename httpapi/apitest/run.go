package apitest

import "testing"

// Options says what is under test.
type Options struct {
	Validator *Validator // nil = answers are not checked against the document
	MaxValue  int        // bytes, as configured; 0 = 4 MiB
	Members   int        // of the ring; 0 = 3
}

// Run holds the rules of the API, each at its edges, against the nodes of one cluster. The nodes must be ready; they get the
// requests in turn. Every run uses buckets of its own. Against a fake that is fast enough, all of it takes a second.
func Run(t *testing.T, baseURLs []string, options Options) {
	if options.MaxValue == 0 {
		options.MaxValue = 4 << 20
	}
	if options.Members == 0 {
		options.Members = 3
	}
	c := newClient(t, baseURLs, options)
	for _, group := range []struct {
		name string
		run  func(*client)
	}{
		{"keys", testKeys},
		{"key limits", testKeyLimits},
		{"buckets in paths", testBucketNames},
		{"values", testValues},
		{"value forms", testForms},
		{"content types", testContentTypes},
		{"value limits", testValueLimits},
		{"broken bodies", testBrokenBodies},
		{"contexts", testContexts},
		{"bad contexts", testBadContexts},
		{"siblings", testSiblings},
		{"sessions", testSessions},
		{"parameters", testParameters},
		{"receipts", testReceipts},
		{"stand-ins", testStandins},
		{"expiry", testExpiry},
		{"conditions", testConditions},
		{"deletes", testDeletes},
		{"head", testHead},
		{"listing", testListing},
		{"settings", testSettings},
		{"last writer", testLastWriter},
		{"methods", testMethods},
		{"paths", testPaths},
		{"not yet", testNotYet},
		{"operators", testOperators},
		{"repair", testRepair},
		{"hints", testHints},
		{"tombstones", testTombstones},
		{"debt", testDebt},
		{"broken requests", testBrokenRequests},
	} {
		t.Run(group.name, func(t *testing.T) { group.run(c.with(t)) })
	}
}

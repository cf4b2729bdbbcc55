package node

import (
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// No goroutine of a node is left once it is closed. memberlist joins nothing when it shuts down; its goroutines end within its
// own timeouts, and so does the one by which goleveldb empties its buffer pool.
func TestMain(m *testing.M) {
	if memory, err := os.Stat("/dev/shm"); err == nil && memory.IsDir() && os.Getenv("TMPDIR") == "" {
		os.Setenv("TMPDIR", "/dev/shm") // nothing here loses power for real: the nodes need not wait for a disk
	}
	goleak.VerifyTestMain(quiet{m},
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).triggerFunc"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).pushPullTrigger"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).streamListen"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).packetListen"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).packetHandler"),
		goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb/util.(*BufferPool).drain"),
		goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"),
	)
}

// quiet ends what the tests' own HTTP client keeps.
type quiet struct{ *testing.M }

// Run runs the tests.
func (q quiet) Run() int {
	defer http.DefaultClient.CloseIdleConnections()
	return q.M.Run()
}

package faults

import (
	"path/filepath"
	"testing"
	"time"
)

// F35: the disk of one node stalls for 30 s: every write to it hangs. Requests through the others go on as ever, nothing acknowledged is
// lost, and when the disk moves again all is well, without a restart. The node itself notices after five seconds: it is not ready, and has
// another owner coordinate the writes that come to it. Those that were under way before hang with the disk: their clients hear nothing
// until their own deadline.
func TestStalledDiskStopsOneNodeAlone(t *testing.T) {
	long(t)
	needMounts(t, "mkfs.ext4", "fsfreeze")
	dir := mountDir(t)
	disk := newImage(t, filepath.Join(dir, "disk.0"), filepath.Join(dir, "mnt"))
	b := withDisk(t, disk.mount)
	frozen := false
	thaw := func() {
		if frozen {
			b.must(runProgram("fsfreeze", "-u", disk.mount))
			frozen = false
		}
	}
	t.Cleanup(thaw) // before the nodes are killed: a process cannot end while it waits for its disk
	b.failed("disk stalled")
	b.must(runProgram("fsfreeze", "-f", disk.mount))
	frozen = true
	wait(t.Context(), 10*time.Second)
	noticed := time.Now()
	b.notReady(b.victim, "the disk does not answer")
	wait(t.Context(), 20*time.Second)
	thawed := time.Now()
	thaw()
	b.load.note("disk of %s moves again", b.victim.Name)
	b.ready(b.victim)
	b.whole(readyTime)
	b.written(b.load, 50)
	b.watch.stop()

	b.watch.serves("the other nodes", b.watch.between(b.began, thawed, b.others...))
	b.watch.serves("the node with the stalled disk, once it has noticed", b.watch.between(noticed.Add(slack), thawed, b.victim))
	b.load.pass()
}

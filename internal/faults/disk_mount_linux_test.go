package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// mountPrefix begins the name of every directory that tests mount file systems in; the number of the test's process follows.
const mountPrefix = "rondo-faults-disk-"

var sweepOnce sync.Once

// needMounts skips a test, as lacks does, where this process cannot mount file systems with the help of these programs.
func needMounts(t *testing.T, programs ...string) {
	t.Helper()
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root")
	}
	for _, name := range append([]string{"mount", "umount"}, programs...) {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if slices.Contains(programs, "mkfs.ext4") {
		if _, err := os.Stat("/dev/loop-control"); err != nil {
			missing = append(missing, "loop devices")
		}
	}
	if len(missing) == 0 {
		sweepOnce.Do(func() { sweepMounts(t) })
		dir := mountDir(t)
		err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m")
		if err == nil {
			err = syscall.Unmount(dir, 0)
		}
		if err == nil {
			return
		}
		missing = append(missing, "the right to mount ("+err.Error()+")")
	}
	lacks(t, "file systems of its own need "+strings.Join(missing, ", "))
}

// mountDir makes a directory that is removed with the test, after everything mounted in it was taken off.
func mountDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", mountPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dropMounts(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// sweepMounts takes away what a test process that was killed has left.
func sweepMounts(t *testing.T) {
	left, err := filepath.Glob(filepath.Join(os.TempDir(), mountPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range left {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), mountPrefix), "-")
		pid, err := strconv.Atoi(number)
		if err != nil || syscall.Kill(pid, 0) == nil {
			continue // not ours, or of a run that lives
		}
		t.Logf("removing %s, which process %d has left", dir, pid)
		if err := dropMounts(dir); err != nil {
			t.Error(err)
		}
	}
}

// dropMounts takes off everything mounted in dir, newest first, and removes dir. Frozen file systems are thawed.
func dropMounts(dir string) error {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		fields := strings.Fields(line)
		if len(fields) < 3 || !strings.HasPrefix(fields[1], dir+"/") && fields[1] != dir {
			continue
		}
		if fields[2] == "ext4" {
			_ = exec.Command("fsfreeze", "-u", fields[1]).Run() // fails where it is not frozen, which is what is wanted
		}
		if err := unmountSoon(fields[1]); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove mount directory: %w", err)
	}
	return nil
}

// unmountSoon takes a mount off its name. Its file system ends when its last user has gone.
func unmountSoon(dir string) error {
	if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// mountTmpfs mounts a small file system in memory.
func mountTmpfs(t *testing.T, dir, size string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount tmpfs of %s: %v", size, err)
	}
}

// image is an ext4 file system in a file, mounted where one node has its data. What was not synced is in the page cache alone: a
// copy of the file is the disk as a power cut leaves it, as far as a disk honours flushes.
type image struct {
	file  string // path of the image in use
	mount string
	cuts  int
}

// newImage makes an empty file system of 256 MiB, sparse, and mounts it on dir.
func newImage(t *testing.T, file, dir string) *image {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		err = errors.Join(f.Truncate(256<<20), f.Close())
	}
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = runProgram("mkfs.ext4", "-q", "-F", file)
	}
	i := &image{file: file, mount: dir}
	if err == nil {
		err = i.on()
	}
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// on mounts the image, which replays the file system's journal. Nothing is written back by age: commit is far beyond the length
// of a test.
func (i *image) on() error { return runProgram("mount", "-o", "loop,commit=300", i.file, i.mount) }

// cut is a power cut: the disk goes on from what had reached it. Nobody may be writing to it any more; those who did were
// killed. The file system before the cut may live on for as long as another mount namespace holds it; the copy is another disk.
func (i *image) cut() error {
	old := i.file
	i.cuts++
	i.file = strings.TrimSuffix(old, filepath.Ext(old)) + "." + strconv.Itoa(i.cuts)
	if err := runProgram("cp", "--sparse=always", old, i.file); err != nil {
		return err
	}
	if err := unmountSoon(i.mount); err != nil {
		return err
	}
	if err := os.Remove(old); err != nil {
		return fmt.Errorf("remove the disk before the cut: %w", err)
	}
	return i.on()
}

// runProgram runs a program to its end, at most for a minute.
func runProgram(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }) // Wait reports it
	defer timer.Stop()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// A power cut takes what was not synced and leaves what was: what the tests of power loss rest on.
func TestPowerCutTakesWhatWasNotSynced(t *testing.T) {
	needMounts(t, "mkfs.ext4", "cp")
	dir := mountDir(t)
	disk := newImage(t, filepath.Join(dir, "disk.0"), filepath.Join(dir, "mnt"))
	write := func(name, content string, sync bool) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(disk.mount, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(content)
		}
		if err == nil && sync {
			err = f.Sync()
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	write("kept", "synced", true)
	write("kept", " and not", false)
	write("gone", "never synced", false)
	if err := disk.cut(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(disk.mount, "kept"))
	if err != nil || string(got) != "synced" {
		t.Errorf("the synced file holds %q, %v; want what was synced", got, err)
	}
	if got, err := os.ReadFile(filepath.Join(disk.mount, "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that was never synced is there after the cut: %q, %v", got, err)
	}
}

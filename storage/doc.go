// Package storage keeps one node's objects, hints and settings in one goleveldb database, and tells truthfully what is on
// disk. It knows nothing of other nodes.
//
// What it promises, and how:
//
//   - A write that has returned survives a crash of the process: the record was handed to the kernel. A write that Sync has
//     reported survives power loss: one fsync of the journal serves all that wait (group commit). goleveldb itself neither
//     syncs a journal that it rotates out nor the directory that names a new one; the layer below it here (disk.go) does both.
//   - The journals form a prefix: no record of a later journal is ever written before all of the earlier one is synced. So a
//     crash takes away the newest unsynced writes, never something in between.
//   - Every object carries an xxhash64 above the database's own checksums. A damaged object is an error, never not-found.
//   - Damage has one way out, whoever meets it: it is noted outside of the database and told (Broken), and the next Open sets the
//     database aside and copies all of it that can be read into a new one (salvage.go).
//   - A store that has lost something, or whose directory is a copy, casts no votes for a class until that has synced with the other
//     owners (Votes).
//   - The volume is never filled to its end: client writes and hints are refused first, repairs later, and both are taken again when there is
//     room (Full).
//   - A failed fsync is final: the store refuses every later write until it is opened again, since the kernel may have dropped the
//     pages (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020). Reads go on.
//   - The incarnation (the actor of every dot minted here) is used again only after a clean Close of a healthy store whose
//     files were left alone since. In every other case a new one is minted, so that no dot is ever issued twice.
//   - The object cache is never older than the database.
//
// Keys start with one byte that names their space (keys.go). Objects and hints continue with the key's token, so that a
// partition is one contiguous range.
package storage

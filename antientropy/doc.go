// Package antientropy finds where replicas differ and makes them equal, without being asked: Merkle exchange between owners, delivery of
// hints to nodes that were away, collection of tombstones that every owner holds, and the slow verification of what is on disk. It is
// never on the path of a request (DeCandia et al., "Dynamo", SOSP 2007, sections 4.6 and 4.7).
//
// What an exchange keeps to:
//
//   - Equal means: everything that either node held of a class when the exchange began is now on both, and on disk as far as it was
//     moved. Writes go on meanwhile; what is in flight is moved needlessly at worst.
//   - Absence is never concluded from what cannot be read, from a leaf that is not what its tree says, or from a tree that is being
//     computed anew. What can be read is exchanged all the same, and the class is not called equal.
//   - The side that answers keeps nothing between two messages, and every message may be lost, late or repeated.
//   - A node that lost data, or was set back, has its vote for a class only when it was equal with every other owner of it, in
//     exchanges that began after it was lost.
package antientropy

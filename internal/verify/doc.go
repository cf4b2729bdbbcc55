// Package verify puts a load on a cluster whose outcome can be judged, while somebody breaks the cluster, and judges it.
//
// Clients write values that nobody else writes, with the contexts that they were given, and note each operation with its
// outcome: done, certainly not done, or unknown. A write whose outcome is unknown is never sent again, and its client goes on
// under a new name. When the faults are over, every key is read through every node and from each replica alone, and package
// check holds what was read against what was acknowledged.
//
// The package needs nothing but the HTTP API and keeps time with package time only, so that it works in virtual time and over
// a network in memory.
package verify

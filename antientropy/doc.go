// Package antientropy finds where replicas differ and makes them equal, without being asked: Merkle exchange between owners, delivery of
// hints to nodes that were away, collection of tombstones that every owner holds, and the slow verification of what is on disk. It is
// never on the path of a request (DeCandia et al., "Dynamo", SOSP 2007, sections 4.6 and 4.7).
package antientropy

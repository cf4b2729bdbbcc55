// Package peer is the replica protocol: how one node reads and writes on another. Client and server sit side by side here
// because they are two ends of one format. It decides nothing: what a message does is the Handler's business, whom to ask
// is the coordinator's.
//
// Messages are length-framed and multiplexed over one persistent TCP connection per direction, plus a second one for large
// payloads, so that a value of some megabytes does not hold up the small ones. Senders append to a shared buffer; one writer
// per connection sends what has gathered in one system call, and one reader hands answers to whoever waits. There is no
// goroutine and no timer per call.
//
// Invariants:
//
//   - every call ends exactly once: by its answer, its deadline, the end of its connection, or Close;
//   - an error says NotApplied only where the request cannot have reached the other node's store. What had not been handed to
//     the kernel when its connection broke, or could be taken back out of the buffer at its deadline, is not applied. The rest
//     is unknown;
//   - memory is bounded: frames, buffers, pending calls, queues, connections and bytes in flight all have a limit, and beyond
//     it a call is refused at once as overloaded, or a connection is not read from;
//   - two nodes talk only if both agree on the cluster's name and identity, on a protocol version, and on who they are.
//
// # Format
//
// All integers are big endian; strings and lists carry uvarint lengths. A connection begins with one hello from each side
// (hello.go), then carries frames:
//
//	length    4  bytes that follow, checksum included
//	op        1  what is asked (messages.go)
//	flags     1  reply, error, and the options of single ops
//	id        8  of the request; the reply repeats it
//	timeout   4  microseconds that the request may still take; 0 in replies
//	layout    8  the ring layout version that the sender went by; 0 in replies
//	payload      by op
//	checksum  4  low half of ring.Digest over everything before it
//
// Any byte that does not fit closes the connection. What costs in such a protocol is not bytes but system calls and wake-ups:
// they are shared between all calls that are in flight together, and a call that is alone goes the shortest way.
package peer

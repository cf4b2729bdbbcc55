// Package vclock is the causality core: version vectors with a dot cloud, objects with siblings and tombstones, their merge,
// their canonical encoding, and the tokens that clients carry. It is pure: no I/O, no clock, no goroutine, no lock, and
// nothing but the standard library.
//
// An object is a dotted version vector set (Gonçalves, Almeida, Baquero, Fonte: "Scalable and Accurate Causality Tracking
// for Eventually Consistent Stores", DAIS 2014). Invariants:
//
//   - a put with a context drops exactly the siblings that the context covers;
//   - merge is commutative, associative and idempotent, and keeps exactly the siblings that no known write replaced;
//   - the encoding is canonical: replicas that hold the same object hold the same bytes, so digests can be compared.
package vclock

// Package check judges what clients of a key-value store have seen. It takes a history of operations, whoever made it,
// and tells which promises it breaks, each with the few operations that prove it. It knows nothing of how the store works: values,
// contexts and times are all it looks at, so it judges a model, a cluster in one process or real machines alike.
//
// The rules, for each key by itself:
//
//   - lost, stale, zombie, phantom, rejected, duplicate, diverged: the final versions are exactly those writes that no
//     acknowledged write has replaced, and no read shows anything else;
//   - quorum: a strict read includes every strict write that was acknowledged before the read began;
//   - backwards: a strict read includes whatever a strict read that finished before it began has included;
//   - session: a read with a context, or in a session, is at least as new as it asked for;
//   - receipt: an operation that is OK was acknowledged, durably where that was asked for, by as many as it asked for;
//   - expired: what expires is not shown after its time; from then on it counts as deleted, collected or not;
//   - lost element: where clients keep sets, by reading, adding and writing back, no acknowledged element is missing.
//
// A write with a context replaces exactly what the context covers. A read's context covers the versions that it showed and all that
// those replaced; a write's context covers the write, and what the write replaced. From this the set of writes that each
// write has replaced is known exactly, with two exceptions, where the package keeps a lower and an upper bound and never
// raises a false alarm: writes without a context replace whatever their coordinator held, and a read does not name the deletes
// that it knows of. Histories with few of either are judged most sharply.
//
// Operations that stand-ins took part in are held to less: a write that was acknowledged with their help arrives in the end, and is not undone;
// a read that they answered shows nothing that is not there, and nothing older than its context. That a delete was collected, so that
// nobody remembers the key, shows nowhere: a key that was never written and one that was deleted are alike.
//
// None of this says that a key is a register whose reads return the last write: TestClaims lists what we do not promise.
//
// Shrink and Timeline show a violation to people; Summarize has the figures that are no verdict.
package check

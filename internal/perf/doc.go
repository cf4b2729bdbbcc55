// Package perf measures what Rondo costs against what the same machine does without it: a bare net/http and chi server, in the
// same minutes, both sides interleaved. It holds tests only; "make bench" runs them and prints the table of docs/benchmarks.md.
// They judge nothing by wall time: a slow machine slows both sides.
package perf

// Package arch holds the tests that keep the packages cut as docs/DESIGN.md draws them. It has no code.
package arch

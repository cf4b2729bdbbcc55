// Package planttest has what the tests of planted bugs share. It is empty without the build tag "planted".
package planttest

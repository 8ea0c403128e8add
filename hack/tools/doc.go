// Package tools is a module of its own, so that what the generators require
// never meets what isthmus requires.
package tools

// Package process runs programs that must not outlive us.
//
// A [Process] runs in a process group of its own, so that ctrl-C on our terminal
// reaches only us and we decide the order of the end. On Linux the kernel kills
// it when our process dies in any way; elsewhere only Stop and Kill end it.
// Output goes to a file, appended, whose path is in every error.
package process

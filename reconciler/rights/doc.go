// Package rights works out what isthmus has to be allowed to do on one member,
// from that member's bundle and from what the engine does beside it (see
// [apply.Touched]), and writes it as YAML for the member's admin.
//
// Guaranteed:
//   - No wildcards, and the same bytes for the same bundle.
//   - Secrets are in reach in the system namespace only.
//   - What is cluster-wide, and what is in any other namespace, may be written and
//     read in whole by name only. In the system namespace, which is isthmus's,
//     kinds are granted whole: what it holds changes with every release.
//   - Namespaces are made by the admin, and neither made nor deleted by isthmus.
//   - Roles are escalated and bound by name.
//
// Not guaranteed:
//   - That lists are narrow. RBAC knows no labels, so who lists and watches what
//     carries a label may list all of the kind.
//   - That the rights of one bundle do for the next: another namespace, gateway or
//     cluster-wide object needs the YAML anew. What the bundle no longer has is no
//     longer granted, also not its removal.
//   - That whoever holds the credentials is harmless: escalate lets the roles named
//     say anything.
package rights

// Package diff says what a change of a fleet does to each member: two renders
// in, meaning and impact out.
//
// # Order
//
// [Compare] pairs the objects of both sides by identity, and by digest leaves out
// those that are equal. What is left is said twice: as [Effect], in the field's
// words, by an ordered list of rules that look at both fleets and at the changed
// objects; and as [ObjectChange], field by field. Then the same thing on many
// members becomes one thing with many members, and [Impact] counts. A report is
// written as text, Markdown, HTML or JSON by [Report.Text] and its siblings.
//
// # What it guarantees
//
// No effect means that no member is written to, and nothing that the hub acts on
// has changed: a report is empty exactly when bundles and specs are equal. Every
// object that a delivery would create, change, make anew, remove or release on
// a member that stays is in the report. No cluster and no secret is needed: a
// bundle contains none. Values are shown as the fleet has them, escaped for the
// form that is written.
//
// # What it does not
//
// What runs is not looked at: drift on a member is not part of a report. CAs,
// peers' credentials and what istiod makes of a Gateway are not objects of a
// bundle; effects speak of them, counts of objects do not. Which fields an API
// server or a controller fills in is not known here.
package diff

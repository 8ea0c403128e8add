package fleet

// The reasons of problems in one document. They are stable: people filter by
// them. The reasons of the rules are in the list of rules.
const (
	// ReasonUnreadable: the file cannot be read at all.
	ReasonUnreadable = "Unreadable"
	// ReasonEncoding: bytes or characters that are not read the same by all.
	ReasonEncoding = "UnclearText"
	// ReasonSyntax: the document is not valid YAML.
	ReasonSyntax = "SyntaxError"
	// ReasonLimitExceeded: too large, too many, too deep.
	ReasonLimitExceeded = "LimitExceeded"
	// ReasonSymlinkIgnored: a symbolic link was not followed.
	ReasonSymlinkIgnored = "SymlinkIgnored"
	// ReasonRepositoryIgnored: a submodule or another repository was not read.
	ReasonRepositoryIgnored = "RepositoryIgnored"
	// ReasonSpecialFile: a pipe, a socket, a device or a pointer to a file that
	// is elsewhere was not read.
	ReasonSpecialFile = "SpecialFileIgnored"
	// ReasonObjectInList: objects are documents, not items of a list.
	ReasonObjectInList = "ObjectInList"
	// ReasonEmptyFleet: there is no object at all.
	ReasonEmptyFleet = "EmptyFleet"
	// ReasonInvalidPath: a path that names nothing below the fleet's root.
	ReasonInvalidPath = "InvalidPath"
	// ReasonDuplicateResources: one file of manifests twice in one network.
	ReasonDuplicateResources = "DuplicateResources"
	// ReasonNotAManifest: a document that is no manifest, where one has to be.
	ReasonNotAManifest = "NotAManifest"
	// ReasonUnknownVersion: an apiVersion that isthmus does not have.
	ReasonUnknownVersion = "UnknownVersion"
	// ReasonUnknownKind: a kind that isthmus does not have.
	ReasonUnknownKind = "UnknownKind"
	// ReasonFleetInGit: a Fleet belongs on the hub.
	ReasonFleetInGit = "FleetInGit"
	// ReasonStatusInFile: status is written by the hub only.
	ReasonStatusInFile = "StatusInFile"
	// ReasonNamespaceInFile: the hub's namespace is not the file's to choose.
	ReasonNamespaceInFile = "NamespaceInFile"
	// ReasonUnknownField: a field that the kind does not have.
	ReasonUnknownField = "UnknownField"
	// ReasonMissingField: a field that must be there.
	ReasonMissingField = "MissingField"
	// ReasonDuplicateKey: one key twice in one mapping.
	ReasonDuplicateKey = "DuplicateKey"
	// ReasonDuplicateItem: one name twice in one list.
	ReasonDuplicateItem = "DuplicateItem"
	// ReasonMergeKey: the YAML merge key "<<" is not read.
	ReasonMergeKey = "MergeKey"
	// ReasonWrongType: a value of another type than the field has.
	ReasonWrongType = "WrongType"
	// ReasonUnknownValue: not one of the values that the field takes.
	ReasonUnknownValue = "UnknownValue"
	// ReasonInvalidValue: the right type, of the wrong form, length or size.
	ReasonInvalidValue = "InvalidValue"
)

"""One file per form of deployable artefact."""

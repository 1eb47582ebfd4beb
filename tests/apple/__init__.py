"""Apple's own test suites, as its wheel ships them, with hub's importer and ONNX Runtime in the place of Core ML."""

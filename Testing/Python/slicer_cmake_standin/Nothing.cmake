# Slicer packages the extension here.

# Stand-in for Slicer's CMake package, for test_packaging.py: defines the few names that the extension uses and puts
# files where Slicer's macros put them.
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/UseSlicerStandin.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake)

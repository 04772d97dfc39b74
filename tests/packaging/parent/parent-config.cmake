include(CMakeFindDependencyMacro)
find_dependency(idem)
include("${CMAKE_CURRENT_LIST_DIR}/parent-targets.cmake")

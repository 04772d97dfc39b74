include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(idem_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/idem")

install(TARGETS idem EXPORT idem_targets FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(
  EXPORT idem_targets
  NAMESPACE idem::
  FILE idem-targets.cmake
  DESTINATION "${idem_package_dir}")

# A group of headers has an export of its own, which the package reads where the group's library is.
set(idem_group_libraries "")
set(idem_group_belows "")
foreach(group IN LISTS idem_groups)
  install(TARGETS idem_${group} EXPORT idem_${group}_targets FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
  install(
    EXPORT idem_${group}_targets
    NAMESPACE idem::
    FILE idem-${group}-targets.cmake
    DESTINATION "${idem_package_dir}")
  install(FILES "${CMAKE_CURRENT_LIST_DIR}/idem-${idem_${group}_library}.cmake" DESTINATION "${idem_package_dir}")
  list(APPEND idem_group_libraries "${idem_${group}_library}")
  list(APPEND idem_group_belows "${idem_${group}_below}")
endforeach()

configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/idem-config.cmake.in" "${PROJECT_BINARY_DIR}/idem-config.cmake"
                              INSTALL_DESTINATION "${idem_package_dir}")
# Without ARCH_INDEPENDENT a package made on a 64-bit machine is refused by 32-bit builds.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/idem-config-version.cmake" COMPATIBILITY SameMajorVersion
                                                                                  ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/idem-config.cmake" "${PROJECT_BINARY_DIR}/idem-config-version.cmake"
        DESTINATION "${idem_package_dir}")

# The prefix is found from the place of the .pc file, so that the installed tree can be moved.
file(RELATIVE_PATH idem_pc_prefix "/p/${CMAKE_INSTALL_DATADIR}/pkgconfig" "/p")
string(REGEX REPLACE "/$" "" idem_pc_prefix "${idem_pc_prefix}")
foreach(name IN ITEMS idem idem-redis idem-redis-tls idem-onceonly)
  configure_file("${CMAKE_CURRENT_LIST_DIR}/${name}.pc.in" "${PROJECT_BINARY_DIR}/${name}.pc" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/${name}.pc" DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")
endforeach()

# Makes idem::hiredis, unless it is there already or can't be found; idem_hiredis_missing says why.
#
# Debian's package has a .pc file and a HiredisConfig.cmake without a target, others have targets of several names, so
# that header and library are looked for themselves; pkg-config, where it is installed, only says where else.
set(idem_hiredis_missing "")
if(NOT TARGET idem::hiredis)
  find_package(PkgConfig QUIET)
  if(PKG_CONFIG_FOUND)
    pkg_check_modules(IDEM_PC_HIREDIS QUIET hiredis)
  endif()
  find_path(IDEM_HIREDIS_INCLUDE_DIR hiredis/hiredis.h HINTS ${IDEM_PC_HIREDIS_PREFIX}/include)
  find_library(IDEM_HIREDIS_LIBRARY hiredis HINTS ${IDEM_PC_HIREDIS_LIBRARY_DIRS})
  mark_as_advanced(IDEM_HIREDIS_INCLUDE_DIR IDEM_HIREDIS_LIBRARY)
  if(IDEM_HIREDIS_INCLUDE_DIR AND IDEM_HIREDIS_LIBRARY)
    add_library(idem::hiredis INTERFACE IMPORTED GLOBAL)
    set_target_properties(
      idem::hiredis PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${IDEM_HIREDIS_INCLUDE_DIR}"
                               INTERFACE_LINK_LIBRARIES "${IDEM_HIREDIS_LIBRARY}")
  else()
    set(idem_hiredis_missing "hiredis is not found (Debian: libhiredis-dev); IDEM_HIREDIS_INCLUDE_DIR and \
IDEM_HIREDIS_LIBRARY say where it is")
  endif()
endif()

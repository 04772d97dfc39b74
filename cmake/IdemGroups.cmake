# Groups of headers that need a library beyond the standard one and POSIX.
#
# idem_group(GROUP HEADERS LIBRARY [BELOW]): moves the headers whose names below include/idem/ match HEADERS from idem_headers to
# idem_GROUP_headers and makes the target idem_GROUP of them. cmake/idem-LIBRARY.cmake looks for the library and makes
# idem::LIBRARY; it is installed, too, so that the library is looked for where idem is used and nothing of the machine
# that installed idem is written down. BELOW is the group that it builds upon.
#
# idem::GROUP is there where the library and idem::BELOW are, unless IDEM_GROUP is OFF. The target idem_GROUP is always made, since the
# headers are installed whether or not this machine has what they need.
set(idem_groups "")  # all of them
set(idem_group_targets "")  # the targets of those that have headers and whose library is here

function(idem_group group headers library)
  set(below idem)
  if(ARGC GREATER 3)
    set(below ${ARGV3})
  endif()
  set(mine "${idem_headers}")
  list(FILTER mine INCLUDE REGEX "/include/idem/(${headers})$")
  list(FILTER idem_headers EXCLUDE REGEX "/include/idem/(${headers})$")

  add_library(idem_${group} INTERFACE)
  set_target_properties(idem_${group} PROPERTIES EXPORT_NAME ${group})
  if(below STREQUAL "idem")
    target_link_libraries(idem_${group} INTERFACE idem idem::${library})
  else()
    target_link_libraries(idem_${group} INTERFACE idem_${below} idem::${library})
  endif()
  target_sources(idem_${group} INTERFACE FILE_SET HEADERS BASE_DIRS "${PROJECT_SOURCE_DIR}/include" FILES ${mine})

  string(TOUPPER "${group}" option)
  set(wanted "${IDEM_${option}}")
  if(NOT wanted STREQUAL "AUTO" AND NOT wanted)
    message(STATUS "idem: idem::${group} is off")
  else()
    include("${CMAKE_CURRENT_FUNCTION_LIST_DIR}/idem-${library}.cmake")
    if(NOT below STREQUAL "idem" AND NOT TARGET idem::${below})
      set(idem_${library}_missing "there is no idem::${below}")
    endif()
    if(NOT idem_${library}_missing)
      add_library(idem::${group} ALIAS idem_${group})
      if(mine)
        list(APPEND idem_group_targets idem_${group})
      endif()
    elseif(wanted STREQUAL "AUTO")
      message(STATUS "idem: without idem::${group}: ${idem_${library}_missing}")
    else()
      message(FATAL_ERROR "idem: IDEM_${option} is ON, but ${idem_${library}_missing}")
    endif()
  endif()

  set(idem_headers "${idem_headers}" PARENT_SCOPE)
  set(idem_${group}_headers "${mine}" PARENT_SCOPE)
  set(idem_${group}_library ${library} PARENT_SCOPE)
  set(idem_${group}_below ${below} PARENT_SCOPE)
  set(idem_groups ${idem_groups} ${group} PARENT_SCOPE)
  set(idem_group_targets "${idem_group_targets}" PARENT_SCOPE)
endfunction()

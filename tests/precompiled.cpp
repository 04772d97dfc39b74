// Nothing but the owner of the precompiled headers: programs that took them from another would wait for its link.
